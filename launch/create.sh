#!/usr/bin/env bash
# Asks Cloud TPU for the slice NAME of type TPU (a queued resource; SPOT=1 for a cheaper one that may be taken away) and
# waits until it is there. Usage: TPU=v3-8 NAME=realm-v3-8 ZONE=... PROJECT=... launch/create.sh
. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/tpu_type.sh"
if [ "$(described queued-resources state.state)" = ABSENT ]; then
  scopes=https://www.googleapis.com/auth/cloud-platform # the VM reads and writes the bucket of WORKDIR
  cloud queued-resources create "$NAME" --node-id="$NAME" --accelerator-type="$TPU" --runtime-version="$RUNTIME" \
    --scopes="$scopes" ${SPOT:+--spot}
fi
[ -z "${DRY_RUN:-}" ] || exit 0

seen=
while true; do
  now=$(described queued-resources state.state)
  [ "$now" = "$seen" ] || echo "$(date +%H:%M) $NAME: $now"
  seen=$now
  case "$now" in
    ACTIVE) break ;;
    FAILED | SUSPENDED | SUSPENDING | DELETING | ABSENT)
      cloud queued-resources describe "$NAME" >&2 || true
      fail "$NAME is $now (see above): make tpu-delete NAME=$NAME, then try again, perhaps in another ZONE" ;;
  esac
  sleep "${POLL_S:-30}"
done
echo "$NAME is there, and costs money until make tpu-delete NAME=$NAME"
