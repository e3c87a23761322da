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
# it fills a blank. If you have none at hand, the notebook writes a folder of 427 short articles to show the form.
#
# Needs Python 3.11 and JAX 0.7, or newer. Tested on Linux with two CPU cores and no accelerator; not yet on Colab or
# a TPU.

# %% [markdown]
# {set_up.py}

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

if SMOKE:
    EXPERIMENT, RUNS, FLAGS, TEXTS = "experiments/mini.py", SMOKE_RUNS, SMOKE_FLAGS, f"{SMOKE_RUNS}/my_texts"

WORKDIR = f"{RUNS}/mine"

# %%
import pathlib

folder = pathlib.Path(TEXTS)
if not folder.exists():
    folder.mkdir(parents=True)
    for number, article in enumerate(realm_jax.texts("asset:mini")):
        (folder / f"{number:03d}.md").write_text(f"# {article.title}\n\n{article.text}\n")
print(f"{TEXTS}: {sum(1 for record in realm_jax.texts(TEXTS))} records")

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
# The command shows blocks with their salient spans, counts, and what was left out.

# %%
# !{PYTHON} -m realm_jax show {WORKDIR} --count=2
assert _exit_code == 0, "the command failed: its last line says why"

# %% [markdown]
# ## Masked sentences and what was retrieved for them
#
# p(z|x) is how much the model relies on a block, r(z) what that block was worth to it.

# %%
run = realm_jax.open(WORKDIR, device="cpu")
run.report("Three masked sentences")

# %% [markdown]
# ## Curves

# %%
run.curves()

# %% [markdown]
# ## Ask about your texts
#
# Write a sentence with `[MASK]`, or nothing to take one of your held-out sentences.

# %%
# @title A sentence with [MASK]
SENTENCE = ""  # @param {type: "string"}

run.fill(SENTENCE or next(iter(run.heldout(1)), "It is [MASK]."))  # nothing may be held out

# %% [markdown]
# ## Next
#
# With questions of your own, `{"question": "…", "answers": ["…"]}` a line, notebook 03 fine-tunes this run: set its
# `RUN` to `mine` and its `DATASET` to your file (keep questions for a test in another). For millions of documents,
# build the corpus first: [Data](https://github.com/realm-jax/realm_jax/blob/main/docs/data.md).
