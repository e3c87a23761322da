#!/usr/bin/env bash
# Says how the slice NAME is and what runs on it.
. "$(dirname "$0")/common.sh"
check_name
now=$(state)
echo "$NAME: $now"
[ "$now" = READY ] || [ -n "${DRY_RUN:-}" ] || exit 0
on_host 0 'bash realm_jax/launch/vm_job.sh running && tail --lines=3 realm_job/log || echo "no job runs there"'
