# Shared by the scripts here: settings, checks, and every call of gcloud. Sourced, not run.
# Settings come from the environment: TPU NAME ZONE PROJECT WORKDIR SPOT BUILDER_TPU BUILDER_ZONE JAX DRY_RUN
# (docs/launch.md).
# shellcheck shell=bash disable=SC2034 # the scripts read what is set here
set -euo pipefail
export CLOUDSDK_CORE_DISABLE_PROMPTS=1 # a question would wait where nobody sits
PREEMPTED_STATUS=75
EXAMPLES="v2-8, v3-8, v4-32, v5litepod-16, v5p-8, v6e-8"
exec 3>&1

fail() {
  printf 'error: %s\n' "$1" >&2
  exit 2
}

# Runs `gcloud compute tpus ARGS` in the chosen zone and project; with DRY_RUN prints it and runs nothing.
cloud() {
  local command=(gcloud compute tpus "$@" ${ZONE:+"--zone=$ZONE"} ${PROJECT:+"--project=$PROJECT"})
  if [ -n "${DRY_RUN:-}" ]; then
    local word line=
    for word in "${command[@]}"; do
      [[ $word =~ ^[-A-Za-z0-9_./:=@]+$ ]] || word=${word@Q}
      line+=" $word"
    done
    echo "${line# }" >&3
  else
    "${command[@]}"
  fi
}

# Runs a shell command on a host (a number, or `all`), in the home folder.
on_host() { cloud tpu-vm ssh "$NAME" --worker="$1" --ssh-flag=-oServerAliveInterval=60 --command="$2"; }

# A state in gcloud's words; ABSENT where there is no such thing; UNKNOWN where gcloud fails, which it then explains.
described() {
  local errors said
  errors=$(mktemp)
  if ! said=$(cloud "$1" describe "$NAME" --format="value($2)" 2>"$errors"); then
    if grep -q NOT_FOUND "$errors"; then said=ABSENT; else cat "$errors" >&2 && said=UNKNOWN; fi
  fi
  rm -f "$errors"
  echo "${said:-ABSENT}"
}

# READY if the slice can be used, else why it cannot: CREATING, PREEMPTED, SUSPENDED, WAITING_FOR_RESOURCES, ...
state() {
  local node
  node=$(described tpu-vm state)
  if [ "$node" = ABSENT ]; then described queued-resources state.state; else echo "$node"; fi
}

was_taken_away() { case "$1" in PREEMPTED | TERMINATED | STOPPED | SUSPENDING | SUSPENDED) ;; *) return 1 ;; esac }

check_name() {
  [[ "${NAME:-}" =~ ^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$ ]] ||
    fail "NAME=${NAME:-} names no TPU: small letters, digits and hyphens, as NAME=realm-v3-8"
}
