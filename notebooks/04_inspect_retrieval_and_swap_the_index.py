# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Inspect retrieval and swap the index
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/realm-jax/realm_jax/blob/main/notebooks/04_inspect_retrieval_and_swap_the_index.ipynb)
#
# The index is a file beside the model, made anew while the model trains. You look into its versions, answer with an
# older one, and then change what the model knows by adding a document, without training.
#
# Needs Python 3.11 and JAX 0.10, or newer. Tested on Linux with two CPU cores and no accelerator; not yet on Colab or
# a TPU.

# %% [markdown]
# ## Install
#
# Installs realm_jax where it is missing; run it as often as you like. JAX and libtpu stay as the runtime brings them.
# If an import fails after it, something older was loaded before: restart the session and run it again.

# %%
# @title Install
import importlib.metadata
import importlib.util
import os
import subprocess
import sys
import tempfile

PYTHON = sys.executable
PACKAGE = "realm_jax @ git+https://github.com/realm-jax/realm_jax"

if sys.version_info < (3, 11):
    sys.exit(
        f"realm_jax needs Python 3.11 or newer, and this runtime has {sys.version.split()[0]}: choose a newer one."
    )
found = {package.name: package.version for package in importlib.metadata.distributions()}
if [int(part) for part in found.get("jax", "0.10").split(".")[:2]] < [0, 10]:
    sys.exit(
        f"realm_jax needs jax 0.10 or newer, and this runtime has {found['jax']}: choose its latest version, or "
        "run %pip install -U jax (with a TPU 'jax[tpu]', with a GPU 'jax[cuda12]'), restart and run this cell again."
    )
spec = importlib.util.find_spec("realm_jax")
if spec is None or spec.origin is None:  # a folder of that name is no package
    print("installing realm_jax takes a minute or two")
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
        kept = [f"{name}=={found[name]}" for name in ("jax", "jaxlib", "libtpu") if name in found]
        constraints.write("\n".join(kept))
        constraints.flush()
        command = [PYTHON, "-m", "pip", "install", "--quiet", "--constraint", constraints.name, PACKAGE]
        done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"pip could not install {PACKAGE}: {done.stderr.strip()[-500:]}")
    importlib.invalidate_caches()

import realm_jax

print(f"realm_jax {realm_jax.__version__}, jax {importlib.metadata.version('jax')}")

# %% [markdown]
# ## Devices
#
# Each command below is a process of its own and takes the accelerator if there is one; on a single TPU chip the
# trainer has it, and the index builder runs on the CPU beside it. This notebook only looks at results, on the CPU: a
# TPU belongs to one process at a time.

# %%
# !{PYTHON} -c "import jax; print(jax.devices())"
import jax

from realm_jax import parallel

jax.config.update("jax_platforms", "cpu")
parallel.set_up_compilation_cache()

# %% [markdown]
# ## Choose
#
# `RUN` is a run's folder in `RUNS`. `SENTENCE` is asked of an older index, of the newest, and again once the index
# knows more.

# %%
# @title Run and sentence
RUN = "nano"  # @param ["nano", "mini", "mine"] {allow-input: true}
RUNS = "runs"  # @param {type: "string"}
SENTENCE = "Lark House was built by Ida [MASK]."  # @param {type: "string"}
FLAGS = ""

if os.environ.get("REALM_JAX_SMOKE"):  # as tests run this notebook: a few steps, in a temporary folder
    RUN, RUNS = "mini", f"{tempfile.gettempdir()}/realm_jax_smoke"
    FLAGS = "--ict.steps=20 --pretrain.steps=20 --pretrain.index_refresh_every=10"

WORKDIR = f"{RUNS}/{RUN}"

# %% [markdown]
# ## A pre-trained run
#
# Takes the run if it is there and finished, and makes or finishes it if not: `nano` in about 13 minutes on two quiet
# CPU cores, `mini` in about one.

# %%
# !test -e {WORKDIR}/summary.json || {PYTHON} -m realm_jax run --config=experiments/{RUN}.py --workdir={WORKDIR} {FLAGS}
assert _exit_code == 0, "the command failed: its last line says why"

# !{PYTHON} -m realm_jax inspect {WORKDIR}

# %% [markdown]
# ## Recall by index version
#
# Each version was made with the retriever's weights of one step. It is immutable, and says how many held-out sentences
# find their own block in it: as they are (plain), and with a span masked and the title's words taken out (hard).

# %%
from IPython.display import HTML, Markdown

from realm_jax import html_page
from realm_jax.eval.run_plots import run_plots
from realm_jax.index.store import IndexStore
from realm_jax.serve import fragments
from realm_jax.workdir import Workdir, read_json

workdir = Workdir.open(WORKDIR)
plots = [plot.svg for plot in run_plots(workdir, read_json(workdir.summary_file)["index"]) if plot.name == "recall"]
versions = IndexStore(workdir.index_folder).versions()
header = ["version on disk", "weights of step", "blocks", "built in, s"]
rows = [(v.name, str(v.step), str(v.manifest["num_blocks"]), str(v.manifest["seconds"])) for v in versions]
HTML(fragments.alone(f"{html_page.table(header, rows, header[:1])}<div style='max-width:36rem'>{''.join(plots)}</div>"))

# %% [markdown]
# ## Retrieved blocks of masked sentences
#
# Held-out sentences with what the newest index finds: p(z|x) is how much the model relies on a block, r(z) what that
# block was worth to it, and the prediction what it says with that block alone.

# %%
from realm_jax.data.prepare import open_prepared
from realm_jax.eval.examples import describe
from realm_jax.eval.heldout import heldout_set
from realm_jax.training import phases

config, data = workdir.config, open_prepared(workdir)
params = phases.last_params(workdir, "pretrain", phases.first_params(workdir))
Markdown(describe(config, data, heldout_set(config, data), params, versions[-1].load_embeddings()))

# %% [markdown]
# ## Swap the index
#
# The same weights with the oldest version on disk and with the newest.

# %%
import textwrap

from realm_jax.index.exact_index import open_exact
from realm_jax.serve.fill import MaskFiller

rows = []
for version in (versions[0], versions[-1]):
    found = MaskFiller(config, data, params, open_exact(version, data.knowledge)).fill(SENTENCE)
    for z in found.blocks:
        text = textwrap.shorten(f"{z.title}: {z.text}", 90) if z.text else "(null block)"
        rows.append((version.name, f"{z.probability:.3f}", text))
HTML(fragments.alone(html_page.table(["version", "p(z|x)", "block"], rows, ["version", "block"])))

# %% [markdown]
# ## Change what it knows
#
# `realm update` embeds the new document, with the tower that made the index, and publishes a version that
# has it. Nothing is trained. A changed text wants another `ID`; `--delete=ID` takes one out again.

# %%
# @title A new document
import json

ID = "larks"  # @param {type: "string"}
TITLE = "Lark House"  # @param {type: "string"}
TEXT = "Lark House was built in 1911 by Ida Brandt. It stands on a hill near the river."  # @param {type: "string"}

with open(f"{RUNS}/new.jsonl", "w") as file:
    file.write(json.dumps({"id": ID, "title": TITLE, "text": TEXT}) + "\n")
command = f"{PYTHON} -m realm_jax update --workdir={WORKDIR} --add={RUNS}/new.jsonl"
done = subprocess.run(command, shell=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
print(done.stdout)  # `!` would fork this process, in which JAX has threads
assert done.returncode == 0, "the command failed: its last line says why"

# %% [markdown]
# Ask the same sentence again. Look at p(z|x): the new document is found at once. Whether the word is predicted from it
# is another matter for so small an encoder; the reader of notebook 03 copies its answers out of the blocks.

# %%
from contextlib import closing

from realm_jax.serve.live import LiveRun

with closing(LiveRun(workdir)) as run:
    filled = run.fill(SENTENCE)
HTML(fragments.alone(fragments.filled(*filled)))

# %% [markdown]
# ## Next
#
# A run that is fine-tuned (notebook 03) answers questions from the new document as well. How often answers follow a
# changed text is [measured](https://github.com/realm-jax/realm_jax/blob/main/docs/results.md).
