#!/usr/bin/env bash
# Runs a command that uses the slice NAME; whenever the slice was taken away, makes it anew and runs the command again.
# Any other end of the command is the end, with its status. Usage: launch/watch.sh COMMAND...
. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/tpu_type.sh"
case "${WORKDIR:-}" in gs://*) ;; *) fail "WORKDIR=${WORKDIR:-} goes with the TPU: pass WORKDIR=gs://BUCKET/RUN" ;; esac
while true; do
  status=0
  "$@" || status=$?
  [ "$status" != 0 ] || exit 0
  now=$(state)
  was_taken_away "$now" || exit "$status"
  echo "$(date +%H:%M) $NAME is $now: making it anew"
  "$(dirname "$0")/delete.sh"
done
