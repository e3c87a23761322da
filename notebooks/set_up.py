# %% [markdown]
# ## Set up
#
# Installs realm_jax where it is missing, and shows what the commands compute on; run it as often as you like. JAX and
# libtpu stay as the runtime brings them, unless JAX is too old: then the cell upgrades it and asks for one restart.
#
# Each command below is a process of its own and takes the accelerator if there is one; on a single TPU chip the
# trainer has it, and the index builder runs on the CPU beside it. This notebook only looks at results, on the CPU: a
# TPU belongs to one process at a time.

# %%
# @title Set up
import importlib.metadata
import importlib.util
import os
import subprocess
import sys
import tempfile

PYTHON = sys.executable
PACKAGE = "realm_jax @ git+https://github.com/realm-jax/realm_jax"
SMOKE = "REALM_JAX_SMOKE" in os.environ  # as tests run this notebook: a few steps, in a temporary folder
SMOKE_RUNS = f"{tempfile.gettempdir()}/realm_jax_smoke"
SMOKE_FLAGS = "--ict.steps=20 --pretrain.steps=20 --pretrain.index_refresh_every=10"

if sys.version_info < (3, 11):
    sys.exit(
        f"realm_jax needs Python 3.11 or newer, and this runtime has {sys.version.split()[0]}: choose a newer one."
    )
found = {package.name: package.version for package in importlib.metadata.distributions()}
is_old = [int(part) for part in found.get("jax", "0.7").split(".")[:2]] < [0, 7]
extra = "[tpu]" if "libtpu" in found else "[cuda12]" if "jax-cuda12-plugin" in found else ""
spec = importlib.util.find_spec("realm_jax")
wanted = [f"jax{extra}>=0.7"] if is_old else []
if spec is None or spec.origin is None:  # a folder of that name is no package
    wanted.append(PACKAGE)
if wanted:
    print(f"installing {' and '.join(wanted)} takes a minute or two")
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
        kept = [f"{name}=={found[name]}" for name in ("jax", "jaxlib", "libtpu") if name in found and not is_old]
        constraints.write("\n".join(kept))
        constraints.flush()
        command = [PYTHON, "-m", "pip", "install", "--quiet", "--constraint", constraints.name, *wanted]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"pip could not install {' and '.join(wanted)}: {done.stderr.strip()[-500:]}")
    importlib.invalidate_caches()
if is_old:
    sys.exit(
        f"jax {found['jax']} was too old for realm_jax and has been upgraded: restart the session once, and run this "
        "cell again."
    )

import realm_jax

print(f"realm_jax {realm_jax.__version__}, jax {importlib.metadata.version('jax')}")
# !{PYTHON} -c "import jax; print(jax.devices())"
