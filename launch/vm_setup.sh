#!/usr/bin/env bash
# On a TPU VM: Python 3.12 by uv (the images bring 3.10), realm_jax with JAX and libtpu, and a look at the chips.
# Usage: vm_setup.sh TPU [JAX_VERSION]; without a version, the one of constraints.txt with the libtpu that it asks for.
set -euo pipefail
cd "$(dirname "$0")/.."
tpu=$1 version=${2:-}
uv_version=0.13.9
constraints=constraints.txt
if [ -n "$version" ]; then
  constraints=$(mktemp)
  grep -vE '^(jax|jaxlib|libtpu)==' constraints.txt >"$constraints"
fi
python3 -m uv --version 2>/dev/null | grep -q " $uv_version" || python3 -m pip install --quiet --user "uv==$uv_version"
python3 -m uv venv --quiet --allow-existing --python=3.12 .venv
python3 -m uv pip install --quiet --python=.venv/bin/python --constraint="$constraints" \
  --editable='.[tpu]' "jax[tpu]${version:+==$version}"

# Releases of libtpu differ in the generations that they drive: only the chips themselves can tell.
if ! timeout "${CHECK_S:-300}" .venv/bin/python - <<'PYTHON'; then
import importlib.metadata

from realm_jax import processes

processes.join()
import jax

devices = jax.devices()
pair = f"jax {jax.__version__}, libtpu {importlib.metadata.version('libtpu')}"
assert devices[0].platform == "tpu", f"{pair} sees {devices}"
print(f"{pair}: {len(devices)} devices, {devices[0].device_kind}")
PYTHON
  echo "error: this JAX does not drive the TPU (see above). Another process may hold the chips: make tpu-stop." >&2
  case "$tpu" in
    v2-* | v3-*) echo "No page says which pair still drives ${tpu%-*}; to try: make tpu-setup JAX=0.10.0" >&2 ;;
    *) echo "To try: make tpu-setup JAX=0.12.0, or another pair of docs/launch.md" >&2 ;;
  esac
  exit 3
fi
