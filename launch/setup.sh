#!/usr/bin/env bash
# Copies this tree (what git does not ignore) to every host of the slice NAME and installs it there; may be repeated.
# Usage: TPU=v3-8 NAME=realm-v3-8 [JAX=0.10.2] launch/setup.sh
. "$(dirname "$0")/common.sh"
. "$(dirname "$0")/tpu_type.sh"
[[ ${JAX:-} =~ ^[0-9A-Za-z.]*$ ]] || fail "JAX=$JAX is no version: pass one, as JAX=0.10.2" # it reaches a shell there
cd "$(dirname "$0")/.."
tree=build/launch/realm_jax.tgz
if [ -z "${DRY_RUN:-}" ]; then
  git rev-parse --git-dir >/dev/null || fail "launch/ copies a git checkout: git clone the repository and run it there"
  mkdir -p "$(dirname "$tree")"
  git ls-files -z --cached --others --exclude-standard |
    tar -czf "$tree" --ignore-failed-read --null --files-from=- # a deleted file is still listed
fi
cloud tpu-vm scp "$tree" "$NAME:realm_jax.tgz" --worker=all
old='find realm_jax -mindepth 1 -maxdepth 1 ! -name .venv ! -name runs -exec rm -rf {} +'
on_host all "mkdir -p realm_jax && $old && tar -xzf realm_jax.tgz -C realm_jax && \
REALM_JAX_DISTRIBUTED=$DISTRIBUTED bash realm_jax/launch/vm_setup.sh $TPU ${JAX:-}"
