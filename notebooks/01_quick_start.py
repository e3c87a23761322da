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
# # Quick start: pre-train REALM and ask it
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/realm-jax/realm_jax/blob/main/notebooks/01_quick_start.ipynb)
#
# A retriever and a masked language model learn together ([Guu et al. 2020](https://arxiv.org/abs/2002.08909)): you
# pre-train a small pair, look at what it learned, and fill blanks in sentences, with the blocks of text that the
# prediction came from.
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
# `nano` downloads 10,033 Wikipedia leads and a small BERT, and takes about 13 minutes on two quiet CPU cores. `mini`
# takes about a minute, downloads nothing, and is too small to show that retrieval helps. Anything in [the
# configuration](https://github.com/realm-jax/realm_jax/blob/main/realm_jax/config.py) is a flag, such as
# `--pretrain.steps=2000`.

# %%
# @title What to train, and where
EXPERIMENT = "experiments/nano.py"  # @param ["experiments/nano.py", "experiments/mini.py"]
RUNS = "runs"  # @param {type: "string"}
FLAGS = ""  # @param {type: "string"}

if os.environ.get("REALM_JAX_SMOKE"):  # as tests run this notebook: a few steps, in a temporary folder
    EXPERIMENT, RUNS = "experiments/mini.py", f"{tempfile.gettempdir()}/realm_jax_smoke"
    FLAGS = "--ict.steps=20 --pretrain.steps=20 --pretrain.index_refresh_every=10"

WORKDIR = f"{RUNS}/{os.path.basename(EXPERIMENT).removesuffix('.py')}"

# %% [markdown]
# ## Pre-train
#
# Everything one after the other: corpus, inverse cloze task (ICT), first index; then REALM, while a
# second process embeds the corpus again and again with the newest weights; then the measurements. Stop it whenever you
# like: the same cell goes on where it was.

# %%
# !{PYTHON} -m realm_jax run --config={EXPERIMENT} --workdir={WORKDIR} {FLAGS}
assert _exit_code == 0, "the command failed: its last line says why"

# %% [markdown]
# ## What it learned
#
# Three states on the same held-out sentences. *Retrieval utility* is log p(y|x) with the retrieved blocks less that
# with the null block alone: above zero, the encoder uses what it reads. *Plain recall@1* is how often a sentence finds
# its own block first.

# %%
from IPython.display import HTML, Markdown

from realm_jax.eval.run_plots import run_plots
from realm_jax.workdir import Workdir, read_json

workdir = Workdir.open(WORKDIR)
report = (workdir.path / "report.md").read_text()
Markdown(report[report.index("## Held-out") : report.index("## Curves")])

# %% [markdown]
# ## Curves
#
# Recall by index version shows the retriever getting better while it trains, and the index age how far the index was
# behind.

# %%
summary = read_json(workdir.summary_file)
plots = run_plots(workdir, summary["index"])
HTML("".join(f"<h4>{plot.title}</h4><p>{plot.text}</p><div style='max-width:36rem'>{plot.svg}</div>" for plot in plots))

# %% [markdown]
# ## Fill a blank
#
# p(y|x) sums over the retrieved blocks z: p(y|z,x) p(z|x). Write a sentence with `[MASK]`, or leave it empty for a
# held-out one.

# %%
# @title A sentence with [MASK]
from contextlib import closing

from realm_jax.serve import fragments
from realm_jax.serve.live import LiveRun

SENTENCE = ""  # @param {type: "string"}

with closing(LiveRun(workdir)) as run:
    filled = run.fill(SENTENCE or run.examples[0])
HTML(fragments.alone(fragments.filled(*filled)))

# %% [markdown]
# ## Next
#
# - [Your own corpus](https://colab.research.google.com/github/realm-jax/realm_jax/blob/main/notebooks/02_your_own_corpus.ipynb)
# - [Fine-tune and evaluate](https://colab.research.google.com/github/realm-jax/realm_jax/blob/main/notebooks/03_finetune_and_evaluate.ipynb)
# - [Inspect retrieval and swap the index](https://colab.research.google.com/github/realm-jax/realm_jax/blob/main/notebooks/04_inspect_retrieval_and_swap_the_index.ipynb)
#
# On a machine of yours, `make demo` shows the same in the browser.
