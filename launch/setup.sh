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
    tar -czf "$tree.$$" --ignore-failed-read --null --files-from=- # a deleted file is still listed
  mv "$tree.$$" "$tree" # whole, also where two slices are set up at once
fi
cloud tpu-vm scp "$tree" "$NAME:realm_jax.tgz" --worker=all
# What was copied before goes, and nothing else: runs may lie anywhere.
old='if [ -s realm_jax.files ]; then (cd realm_jax && xargs -rd "\n" rm -f -- <../realm_jax.files); fi'
new='tar -tzf realm_jax.tgz >realm_jax.files && tar -xzf realm_jax.tgz -C realm_jax'
on_host all "mkdir -p realm_jax && $old && $new && \
REALM_JAX_DISTRIBUTED=$DISTRIBUTED bash realm_jax/launch/vm_setup.sh $TPU ${JAX:-}"
