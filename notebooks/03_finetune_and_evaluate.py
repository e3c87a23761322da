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
# # Fine-tune on questions and evaluate
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/realm-jax/realm_jax/blob/main/notebooks/03_finetune_and_evaluate.ipynb)
#
# A pre-trained run learns to answer questions by spans of the blocks that it retrieves, and is scored beside
# baselines: exact match, recall, calibration, each with 95% intervals.
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
# `cloze` asks for blanks in sentences of the run's own corpus and downloads nothing: it shows that a run works, not
# how well it would answer people. `wq` is [WebQuestions](https://aclanthology.org/D13-1160/) (Berant et al. 2013),
# downloaded from its site, or read from `DATA_DIR` if you have its files; a corpus of 10,033 leads answers few of
# them. `RUN` is a run's folder in `RUNS`; a file of your own JSON lines works as `DATASET`, too.

# %%
# @title Run and questions
DATASET = "cloze"  # @param ["cloze", "wq"] {allow-input: true}
DATA_DIR = ""  # @param {type: "string"}
RUN = "nano"  # @param ["nano", "mini", "mine"] {allow-input: true}
RUNS = "runs"  # @param {type: "string"}
FLAGS = ""

if os.environ.get("REALM_JAX_SMOKE"):  # as tests run this notebook: a few steps, in a temporary folder
    RUN, RUNS = "mini", f"{tempfile.gettempdir()}/realm_jax_smoke"
    FLAGS = "--ict.steps=20 --pretrain.steps=20 --pretrain.index_refresh_every=10"

WORKDIR = f"{RUNS}/{RUN}"
DATA = f"--dataset={DATASET}" + (f" --data_dir={DATA_DIR}" if DATA_DIR else "")
TUNE, SCORE = "", "--baseline=all"
if os.environ.get("REALM_JAX_SMOKE"):
    TUNE, SCORE = "--finetune.epochs=1 --finetune.train_questions=64", "--baseline=bm25,frequent --questions=64"

# %% [markdown]
# ## A pre-trained run
#
# Takes the run if it is there and finished, and makes or finishes it if not: `nano` in about 13 minutes on two quiet
# CPU cores, `mini` in about one.

# %%
# !test -e {WORKDIR}/summary.json || {PYTHON} -m realm_jax run --config=experiments/{RUN}.py --workdir={WORKDIR} {FLAGS}
assert _exit_code == 0, "the command failed: its last line says why"

# %% [markdown]
# ## Fine-tune
#
# The query tower and the reader learn; blocks and index stay. The weights with the best exact match on the development
# questions are kept. The same cell goes on after an interruption.

# %%
# !{PYTHON} -m realm_jax finetune --workdir={WORKDIR} {DATA} {TUNE}
assert _exit_code == 0, "the command failed: its last line says why"

# %%
from IPython.display import HTML

from realm_jax.data import datasets
from realm_jax.serve import fragments, history
from realm_jax.workdir import Workdir, read_json, read_json_lines

workdir = Workdir.open(WORKDIR)
HTML(fragments.alone(history.training(workdir)))

# %% [markdown]
# ## Evaluate
#
# The test questions, and the floors and baselines that a figure needs beside it: BM25's blocks, random blocks and the
# other retrievers with the same reader, the most frequent answer, and the language model without any block.

# %%
# !{PYTHON} -m realm_jax eval --workdir={WORKDIR} {DATA} {SCORE}
assert _exit_code == 0, "the command failed: its last line says why"

# %% [markdown]
# The whole report, with examples, is `report.html` in the folder that the last line names. Its parts:

# %%
import html
import textwrap

from realm_jax import html_page
from realm_jax.eval import qa_tables

name = datasets.folder_name(DATASET)
results = read_json(workdir.path / "eval" / name / "results.json")
parts = []
for section in qa_tables.sections(results):
    drawn = f"<div style='max-width:36rem'>{section.draw()}</div>" if section.draw else ""
    table = html_page.table(section.header, section.rows, qa_tables.WORD_COLUMNS)
    parts.append(f"<h4>{section.title}</h4><p>{html.escape(section.text)}</p>{drawn}{table}")
HTML(fragments.alone("".join(parts)))

# %%
predictions, _ = read_json_lines(workdir.path / "eval" / name / "predictions.jsonl")
rows = []
for p in predictions[:10]:
    texts = p["question"], p["prediction"], ", ".join(p["answers"])
    rows.append(["yes" if p["is_correct"] else "no", *(textwrap.shorten(text, 80) for text in texts)])
header = ["right", "question", "prediction", "answers"]
HTML(fragments.alone(html_page.table(header, rows, header)))

# %% [markdown]
# ## Ask
#
# A question of your own, of the kind that it was fine-tuned on; empty for a held-out sentence with a blank.

# %%
# @title A question
from contextlib import closing

from realm_jax.serve.live import LiveRun

QUESTION = ""  # @param {type: "string"}

with closing(LiveRun(workdir, name)) as run:
    answered = run.ask(QUESTION or run.examples[0])
HTML(fragments.alone(fragments.answered(*answered)))

# %% [markdown]
# ## Next
#
# What is measured, and what such figures do not say:
# [evaluation](https://github.com/realm-jax/realm_jax/blob/main/docs/evaluation.md). Other datasets, published settings
# (`--preset=orqa`) and ablations: [question
# answering](https://github.com/realm-jax/realm_jax/blob/main/docs/openqa.md).
