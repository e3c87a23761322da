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
# # Pre-train on your own corpus
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/realm-jax/realm_jax/blob/main/notebooks/02_your_own_corpus.ipynb)
#
# Bring a folder of texts or a file of JSON lines, pre-train on it, and see which of your passages the model reads when
# it fills a blank. Without texts of yours, the notebook writes a folder of 427 short articles to show the form.
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
# ## Your texts
#
# `TEXTS` is a folder of `.txt` and `.md` files, or a `.jsonl` or `.jsonl.gz` file with one `{"id": "…", "title": "…",
# "text": "…"}` a line. In Colab, drag files into the folder on the left, or mount your Drive and name a folder of it;
# `RUNS` may lie there as well, which keeps the run when the runtime ends.

# %%
# @title Texts, model, and where to
TEXTS = "my_texts"  # @param {type: "string"}
EXPERIMENT = "experiments/nano.py"  # @param ["experiments/nano.py", "experiments/mini.py"]
RUNS = "runs"  # @param {type: "string"}
FLAGS = ""  # @param {type: "string"}

if os.environ.get("REALM_JAX_SMOKE"):  # as tests run this notebook: a few steps, in a temporary folder
    EXPERIMENT, RUNS = "experiments/mini.py", f"{tempfile.gettempdir()}/realm_jax_smoke"
    TEXTS = f"{RUNS}/my_texts"
    FLAGS = "--ict.steps=20 --pretrain.steps=20 --pretrain.index_refresh_every=10"

WORKDIR = f"{RUNS}/mine"

# %%
import pathlib

from realm_jax.data import sources

folder = pathlib.Path(TEXTS)
if not folder.exists():
    folder.mkdir(parents=True)
    for number, article in enumerate(sources.read("asset:mini").records()):
        (folder / f"{number:03d}.md").write_text(f"# {article.title}\n\n{article.text}\n")
print(f"{TEXTS}: {sources.read(TEXTS).num_records} records")

# %% [markdown]
# ## Pre-train
#
# `nano` starts from a small BERT, which it downloads; `mini` starts at random with a vocabulary made from your texts.
# The texts are cut into blocks at sentences, names and dates in them are the spans that get masked, and a share of the
# articles is held out to be measured on. A corpus has a workdir of its own: for other texts, change `RUNS` or delete
# the run.

# %%
# !{PYTHON} -m realm_jax run --config={EXPERIMENT} --corpus={TEXTS} --workdir={WORKDIR} {FLAGS}
assert _exit_code == 0, "the command failed: its last line says why"

# %% [markdown]
# ## Your corpus, as the model sees it
#
# Blocks with their salient spans, what was counted and what was left out.

# %%
# !{PYTHON} -m realm_jax show {WORKDIR} --count=2
assert _exit_code == 0, "the command failed: its last line says why"

# %% [markdown]
# ## Masked sentences and what was retrieved for them
#
# p(z|x) is how much the model relies on a block, r(z) what that block was worth to it.

# %%
from IPython.display import HTML, Markdown

from realm_jax.eval.run_plots import run_plots
from realm_jax.workdir import Workdir, read_json

workdir = Workdir.open(WORKDIR)
report = (workdir.path / "report.md").read_text()
Markdown(report[report.index("## Three masked sentences") :])

# %% [markdown]
# ## Curves

# %%
summary = read_json(workdir.summary_file)
plots = run_plots(workdir, summary["index"])
HTML("".join(f"<h4>{plot.title}</h4><p>{plot.text}</p><div style='max-width:36rem'>{plot.svg}</div>" for plot in plots))

# %% [markdown]
# ## Ask about your texts
#
# A sentence with `[MASK]`, or nothing for one of your held-out sentences.

# %%
# @title A sentence with [MASK]
from contextlib import closing

from realm_jax.serve import fragments
from realm_jax.serve.live import LiveRun

SENTENCE = ""  # @param {type: "string"}

with closing(LiveRun(workdir)) as run:
    filled = run.fill(SENTENCE or next(iter(run.examples), "It is [MASK]."))  # nothing may be held out
HTML(fragments.alone(fragments.filled(*filled)))

# %% [markdown]
# ## Next
#
# With questions of your own, `{"question": "…", "answers": ["…"]}` a line, notebook 03 fine-tunes this run: set its
# `RUN` to `mine` and its `DATASET` to your file. For millions of documents, build the corpus first:
# [Data](https://github.com/realm-jax/realm_jax/blob/main/docs/data.md).
