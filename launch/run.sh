#!/usr/bin/env bash
# Runs `python ARGS` of this tree on all hosts of the slice NAME of type TPU; makes the slice and sets it up if need be,
# follows the first host's log, and ends with the job's exit status, or with 75 if the slice was taken away.
# Usage: TPU=v3-8 NAME=realm-v3-8 WORKDIR=gs://BUCKET/RUN launch/run.sh -m realm_jax run --config=...
# --keep (first) is for the builder: starts the job, which is begun again until it succeeds, and does not wait for it.
. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/tpu_type.sh"
here=$(dirname "$0")
how=start
if [ "${1:-}" = --keep ]; then how=keep && shift; fi
case " $* " in *" --index.device=accelerator "*) builder_tpu=${BUILDER_TPU:-} ;; *) builder_tpu= ;; esac
case "${WORKDIR:-}" in
  gs://*) ;;
  *)
    [ -z "$DISTRIBUTED$builder_tpu" ] ||
      fail "WORKDIR=${WORKDIR:-} is not shared by several machines: pass WORKDIR=gs://BUCKET/RUN"
    echo "note: the run stays on the TPU's own disk and goes with it; WORKDIR=gs://BUCKET/RUN keeps it"
    ;;
esac
# Builders share nothing but files: each host of their slice works by itself, and may die without the others.
together=(${DISTRIBUTED:+"REALM_JAX_DISTRIBUTED=$DISTRIBUTED"})
if [ "$how$DISTRIBUTED" = keepauto ]; then together=("${ALONE[@]}"); fi

gone() {
  echo "$NAME is $1: make tpu-watch makes it anew and goes on" >&2
  exit "$PREEMPTED_STATUS"
}
now=$(state)
if was_taken_away "$now"; then
  [ $how = keep ] || gone "$now"
  "$here/delete.sh" # a builder has nothing to lose
fi
if [ "$now" != READY ]; then "$here/create.sh"; fi

running=no-job
[ -n "${DRY_RUN:-}" ] || running=$(on_host 0 'bash realm_jax/launch/vm_job.sh running 2>/dev/null || echo no-job')
if [ "${running##*$'\n'}" != no-job ]; then
  echo "$running"
else
  "$here/setup.sh"
  if [ -n "$builder_tpu" ]; then
    env TPU="$builder_tpu" NAME="$NAME-builder" ZONE="${BUILDER_ZONE:-${ZONE:-}}" \
      "$here/run.sh" --keep -m realm_jax builder --workdir="$WORKDIR"
  fi
  job=$(printf ' %q' env "${together[@]}" .venv/bin/python "$@")
  on_host all "bash realm_jax/launch/vm_job.sh $how $(date +%s)-$$$job"
fi
[ $how = start ] || exit 0

until on_host 0 'bash realm_jax/launch/vm_job.sh follow'; do
  status=$? # the job's, or gcloud's where the connection broke
  [ $status != 70 ] || exit 70 # it ended without a status
  if [ "$(on_host 0 'cat realm_job/status' 2>/dev/null || true)" = $status ]; then exit $status; fi
  now=$(state)
  if was_taken_away "$now" || [ "$now" = ABSENT ]; then gone "$now"; fi
  sleep "${POLL_S:-30}"
done
echo "The TPU still costs money: make tpu-delete NAME=$NAME${builder_tpu:+; make tpu-delete NAME=$NAME-builder}"
