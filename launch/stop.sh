#!/usr/bin/env bash
# Asks the job on the slice NAME to save its state and end, and the builder's on NAME-builder. The TPU stays, and costs.
. "$(dirname "$0")/common.sh"
check_name
on_host all 'bash realm_jax/launch/vm_job.sh stop'
if [ -n "${BUILDER_TPU:-}" ]; then
  env NAME="$NAME-builder" ZONE="${BUILDER_ZONE:-${ZONE:-}}" BUILDER_TPU= "$0"
fi
echo "The TPU still costs money: make tpu-delete NAME=$NAME"
