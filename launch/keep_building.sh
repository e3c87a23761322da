#!/usr/bin/env bash
# One index builder, started again until it succeeds: there is nothing to index before pre-training begins.
# As a task of Slurm it takes a GPU of its own, counted from the node's last one. Usage: launch/keep_building.sh WORKDIR
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -n "${SLURM_LOCALID:-}" ] && [ -n "${CUDA_VISIBLE_DEVICES:-}" ]; then
  IFS=, read -ra gpus <<<"$CUDA_VISIBLE_DEVICES"
  export CUDA_VISIBLE_DEVICES=${gpus[-1 - SLURM_LOCALID]}
fi
until "${PYTHON:-.venv/bin/python}" -m realm_jax builder --workdir="$1"; do
  sleep "${AGAIN_S:-60}"
done
