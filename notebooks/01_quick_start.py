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
# Needs Python 3.11 and JAX 0.7, or newer. Tested on Linux with two CPU cores and no accelerator; not yet on Colab or
# a TPU.

# %% [markdown]
# {set_up.py}

# %% [markdown]
# ## Choose
#
# `nano` downloads 10,033 Wikipedia leads and a small BERT, and takes about 6 minutes on two quiet CPU cores. `mini`
# takes about a minute, downloads nothing, and is too small to show that retrieval helps. Anything in [the
# configuration](https://github.com/realm-jax/realm_jax/blob/main/realm_jax/config.py) is a flag, such as
# `--pretrain.steps=2000`.

# %%
# @title What to train, and where
EXPERIMENT = "experiments/nano.py"  # @param ["experiments/nano.py", "experiments/mini.py"]
RUNS = "runs"  # @param {type: "string"}
FLAGS = ""  # @param {type: "string"}

if SMOKE:
    EXPERIMENT, RUNS, FLAGS = "experiments/mini.py", SMOKE_RUNS, SMOKE_FLAGS
WORKDIR = f"{RUNS}/{os.path.basename(EXPERIMENT).removesuffix('.py')}"

# %% [markdown]
# ## Pre-train
#
# This runs everything, one part after the other: corpus, inverse cloze task (ICT), first index; then REALM, while a
# second process embeds the corpus again and again with the newest weights; then the measurements. Stop it whenever you
# like: the same cell goes on where it was.

# %%
# !{PYTHON} -m realm_jax run --config={EXPERIMENT} --workdir={WORKDIR} {FLAGS}
assert _exit_code == 0, "the command failed: its last line says why"

# %% [markdown]
# ## What it learned
#
# The table compares three states on the same held-out sentences. *Retrieval utility* is log p(y|x) with the retrieved
# blocks minus that with the null block alone: above zero, the encoder uses what it reads. *Plain recall@1* is how often
# a sentence finds its own block first.

# %%
run = realm_jax.open(WORKDIR, device="cpu")
run.report("Held-out sentences")

# %% [markdown]
# ## Curves
#
# Recall by index version shows how the retriever gets better while it trains; the index age shows how far the index
# was behind the weights.

# %%
run.curves()

# %% [markdown]
# ## Fill a blank
#
# p(y|x) sums over the retrieved blocks z: p(y|z,x) p(z|x). Write a sentence with `[MASK]`, or leave it empty for a
# held-out one.

# %%
# @title A sentence with [MASK]
SENTENCE = ""  # @param {type: "string"}

run.fill(SENTENCE or run.heldout(1)[0])

# %% [markdown]
# ## Next
#
# - [Your own corpus](https://colab.research.google.com/github/realm-jax/realm_jax/blob/main/notebooks/02_your_own_corpus.ipynb)
# - [Fine-tune and evaluate](https://colab.research.google.com/github/realm-jax/realm_jax/blob/main/notebooks/03_finetune_and_evaluate.ipynb)
# - [Inspect retrieval and swap the index](https://colab.research.google.com/github/realm-jax/realm_jax/blob/main/notebooks/04_inspect_retrieval_and_swap_the_index.ipynb)
#
# On your own machine, `make demo` shows the same in the browser.
