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
# baselines: exact match and recall with 95% intervals, and calibration.
#
# Needs Python 3.11 and JAX 0.7, or newer. Tested on Linux with two CPU cores and no accelerator; not yet on Colab or
# a TPU.

# %% [markdown]
# {set_up.py}

# %% [markdown]
# ## Choose
#
# `cloze` asks for blanks in sentences of the run's own corpus and downloads nothing: it shows that a run works, not
# how well it would answer people. `wq` is [WebQuestions](https://aclanthology.org/D13-1160/) (Berant et al. 2013),
# downloaded from its site, or read from `DATA_DIR` if you have its files; a corpus of 10,033 leads answers few of
# them. `RUN` is a run's folder in `RUNS`; a file of your own JSON lines works as `DATASET`, too; a test asks
# all its questions, so give it another file than the one that was trained on.

# %%
# @title Run and questions
DATASET = "cloze"  # @param ["cloze", "wq"] {allow-input: true}
DATA_DIR = ""  # @param {type: "string"}
RUN = "nano"  # @param ["nano", "mini", "mine"] {allow-input: true}
RUNS = "runs"  # @param {type: "string"}
FLAGS = ""

if SMOKE:
    RUN, RUNS, FLAGS = "mini", SMOKE_RUNS, SMOKE_FLAGS

WORKDIR = f"{RUNS}/{RUN}"
DATA = f"--dataset={DATASET}" + (f" --data_dir={DATA_DIR}" if DATA_DIR else "")
TUNE, SCORE = "", "--baseline=all"
if SMOKE:
    TUNE, SCORE = "--finetune.epochs=1 --finetune.train_questions=64", "--baseline=bm25,frequent --questions=64"

# %% [markdown]
# ## A pre-trained run
#
# The cell takes the run if it is there and finished, and makes or finishes it if not: `nano` takes about 6 minutes on
# two quiet CPU cores, `mini` about one.

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

# %% [markdown]
# ## Evaluate
#
# The command asks the test questions, and sets baselines beside the figures: BM25's blocks, random blocks
# and the other retrievers with the same reader, the most frequent answer, and the language model without any block.

# %%
# !{PYTHON} -m realm_jax eval --workdir={WORKDIR} {DATA} {SCORE}
assert _exit_code == 0, "the command failed: its last line says why"

# %% [markdown]
# The last curves are the loss and the development exact match of the fine-tuning.

# %%
run = realm_jax.open(WORKDIR, device="cpu")
run.curves()

# %% [markdown]
# The whole report, with examples, is `report.html` in the folder that the last line names. Its parts:

# %%
run.evaluation()  # the newest

# %%
run.evaluation().predictions[:10]

# %% [markdown]
# ## Ask
#
# Write a question of the kind that the run was fine-tuned on, or nothing to take a held-out sentence with a blank.

# %%
# @title A question
QUESTION = ""  # @param {type: "string"}

run.ask(QUESTION or run.heldout(1)[0])

# %% [markdown]
# ## Next
#
# What is measured, and what such figures do not say:
# [evaluation](https://github.com/realm-jax/realm_jax/blob/main/docs/evaluation.md). Other datasets, published settings
# (`--preset=orqa`) and ablations: [question
# answering](https://github.com/realm-jax/realm_jax/blob/main/docs/openqa.md).
