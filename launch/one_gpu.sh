#!/usr/bin/env bash
# Trainer and index builder side by side on this machine's one GPU: each takes a fixed share of its memory at its start.
# Usage: launch/one_gpu.sh WORKDIR --config=experiments/... [SETTINGS...]
set -euo pipefail
cd "$(dirname "$0")/.."
workdir=$1
python=${PYTHON:-.venv/bin/python}

set -m # each in a process group of its own, to be ended whole
XLA_PYTHON_CLIENT_MEM_FRACTION=${BUILDER_MEM_FRACTION:-.20} launch/keep_building.sh "$workdir" &
builder=$!
trap 'kill -- -$builder 2>/dev/null || true' EXIT

XLA_PYTHON_CLIENT_MEM_FRACTION=${TRAINER_MEM_FRACTION:-.70} \
  "$python" -m realm_jax run --workdir="$workdir" --index.device=accelerator "${@:2}" &
trainer=$!
trap 'kill "$trainer" 2>/dev/null || true' TERM INT # it saves its state before it ends
status=0
wait "$trainer" || status=$?
while kill -0 "$trainer" 2>/dev/null; do
  status=0
  wait "$trainer" || status=$?
done
[ $status = 0 ] || exit $status
wait "$builder" # which indexes the last weights
