#!/usr/bin/env bash
# On a TPU VM: one job that outlives the ssh connection. Every command may be repeated: gcloud does so when a connection
# breaks. Usage: vm_job.sh start ID COMMAND... | keep ID COMMAND... (again until it succeeds) | follow | running | stop
set -euo pipefail
cd "$(dirname "$0")/.."
job=${REALM_JAX_JOB:-$HOME/realm_job}

is_running() { [ -s "$job/shell" ] && kill -0 "$(cat "$job/shell")" 2>/dev/null; }

# The job's shell: leaves the process id of the command, then its exit status.
run() {
  local keep=$1 status=0
  echo $$ >"$job/shell"
  until [ -e "$job/stop" ]; do
    "${@:2}" &
    echo $! >"$job/pid"
    wait $! && status=0 || status=$?
    if [ "$keep" = start ] || [ "$status" = 0 ] || [ -e "$job/stop" ]; then break; fi
    echo "ended with status $status; once more in a minute"
    sleep "${AGAIN_S:-60}"
  done
  echo "$status" >"$job/status"
}

case "$1" in
  start | keep)
    if [ "$(cat "$job/id" 2>/dev/null)" = "$2" ]; then exit 0; fi
    if is_running; then
      echo "error: another job runs here: $(cat "$job/command"): make tpu-stop ends it" >&2
      exit 2
    fi
    rm -rf "$job"
    mkdir -p "$job"
    echo "$2" >"$job/id"
    printf '%s ' "${@:3}" >"$job/command"
    setsid nohup bash launch/vm_job.sh run "$1" "${@:3}" >"$job/log" 2>&1 </dev/null &
    until [ -s "$job/pid" ]; do
      kill -0 $! 2>/dev/null || [ -s "$job/pid" ] || { cat "$job/log" >&2 && exit 70; }
      sleep 0.1
    done
    ;;
  run) run "${@:2}" ;;
  running) is_running && cat "$job/command" && echo ;;
  follow)
    if [ -s "$job/shell" ]; then tail --pid="$(cat "$job/shell")" --lines=200 --follow "$job/log"; fi
    if [ ! -s "$job/status" ]; then
      echo "error: the job ended without a status: was the machine started again?" >&2
      exit 70
    fi
    exit "$(cat "$job/status")"
    ;;
  stop)
    is_running || { echo "no job runs here"; exit 0; }
    touch "$job/stop"
    kill "$(cat "$job/pid")" 2>/dev/null || true # the trainer saves its state first
    tail --pid="$(cat "$job/shell")" --lines=5 --follow "$job/log"
    ;;
esac
