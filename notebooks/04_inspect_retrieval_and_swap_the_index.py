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
# The index is a folder beside the model, and is made again and again while the model trains. You look into its
# versions, answer with an older one, and then change what the model knows by adding a document, without training.
#
# Needs Python 3.11 and JAX 0.7, or newer. Tested on Linux with two CPU cores and no accelerator; not yet on Colab or
# a TPU.

# %% [markdown]
# {set_up.py}

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

if SMOKE:
    RUN, RUNS, FLAGS = "mini", SMOKE_RUNS, SMOKE_FLAGS

WORKDIR = f"{RUNS}/{RUN}"

# %% [markdown]
# ## A pre-trained run
#
# The cell takes the run if it is there and finished, and makes or finishes it if not: `nano` takes about 6 minutes on
# two quiet CPU cores, `mini` about one.

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
run = realm_jax.open(WORKDIR, device="cpu")
run.index.versions()

# %%
run.curves("recall")

# %% [markdown]
# ## Retrieved blocks of masked sentences
#
# Held-out sentences with what the newest index finds: p(z|x) is how much the model relies on a block, r(z) what that
# block was worth to it, and the prediction what it says with that block alone.

# %%
run.examples()

# %% [markdown]
# ## Swap the index
#
# The same weights answer with the oldest version on disk and with the newest.

# %%
oldest = run.index.versions()[0]
with realm_jax.open(WORKDIR, version=oldest.name) as before:
    print(before.fill(SENTENCE))
print(run.fill(SENTENCE))

# %% [markdown]
# ## Change what it knows
#
# The new document is embedded with the tower that made the index, and a version is published that has it. Nothing is
# trained. A changed text needs another `ID`; `run.delete([ID])` takes one out again.

# %%
# @title A new document
ID = "larks"  # @param {type: "string"}
TITLE = "Lark House"  # @param {type: "string"}
TEXT = "Lark House was built in 1911 by Ida Brandt. It stands on a hill near the river."  # @param {type: "string"}

run.add([{"id": ID, "title": TITLE, "text": TEXT}])

# %% [markdown]
# Ask the same sentence again. Look at p(z|x): the new document is found at once. Whether the word is predicted from it
# is another matter for so small an encoder; the reader of notebook 03 copies its answers out of the blocks.

# %%
run.fill(SENTENCE)  # with the new document

# %% [markdown]
# ## Next
#
# A run that is fine-tuned (notebook 03) answers questions from the new document as well. How often answers follow a
# changed text is [measured](https://github.com/realm-jax/realm_jax/blob/main/docs/results.md).
