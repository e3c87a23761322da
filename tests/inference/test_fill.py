"""Filled blanks against the training step's own numbers."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from realm_jax.batches import stack
from realm_jax.data.assembly import with_candidates
from realm_jax.data.pipeline import MaskedSentences
from realm_jax.data.prepare import open_prepared
from realm_jax.data.questions import cloze
from realm_jax.index.loaded_index import LoadedIndex, open_exact
from realm_jax.index.store import IndexStore
from realm_jax.inference.fill import MaskFiller
from realm_jax.losses import marginal
from realm_jax.models import embedder, realm
from realm_jax.openqa.inputs import question_tokens
from realm_jax.training import phases


class Opened:
    """A pre-trained run with its newest index."""

    def __init__(self, workdir):
        self.config, self.data = workdir.config, open_prepared(workdir)
        self.params = phases.last_params(workdir, "pretrain")
        version = IndexStore(workdir.index_folder).latest()
        self.index: LoadedIndex = open_exact(version, self.data.knowledge)
        self.filler = MaskFiller(self.config, self.data, self.params, self.index)


@pytest.fixture(scope="module")
def run(pretrained_run):
    return Opened(pretrained_run)


@pytest.fixture(scope="module")
def sentences(run):
    """Held-out sentences with a blank as text, and the same ones as the training pipeline makes them."""
    settings = dataclasses.replace(run.config.pretrain, answer_elsewhere=False)
    masked = MaskedSentences(run.data.text, run.data.special, settings, 0.2, heldout=True)
    examples = [masked.example(number, np.random.default_rng(0)) for number in range(len(masked))]
    by_ids = {tuple(example.query.ids.tolist()): example for example in examples}
    questions = cloze.questions(run.data, run.config, "test")
    ids = question_tokens(questions, run.data.tokenizer, run.data.special, settings.query_len_tokens).ids
    pairs = [(q.text, by_ids.get(tuple(row.tolist()))) for q, row in zip(questions, ids, strict=True)]
    found = [
        (text, example)
        for text, example in pairs
        if example is not None and example.mask_weights.sum() == text.count("[MASK]")
    ]
    assert len(found) >= 3
    return found[:3]


def training_batch(run, example, predicted):
    """What the trainer would see if the index proposed its best blocks and `predicted` were the truth."""
    queries = stack([dataclasses.replace(example, mask_targets=predicted)])
    query_emb = embedder.embed(run.config.model, run.params["embedder"], "query", queries.query)
    order = np.argsort(-(np.asarray(query_emb) @ np.asarray(run.index.embeddings, np.float32).T), axis=1)
    batch = with_candidates(queries, order[:, : run.config.pretrain.num_candidates - 1], run.data.knowledge, 1)
    return jax.tree.map(jnp.asarray, batch)


@pytest.mark.slow
def test_probabilities_are_those_of_the_training_step(run, sentences):
    params = jax.tree.map(jnp.asarray, run.params)
    for text, example in sentences:
        found = run.filler.fill(text)
        best = [run.data.tokenizer.token_to_id(blank[0].wordpiece) for blank in found.blanks]
        predicted = np.zeros_like(example.mask_targets)
        predicted[: len(best)] = best
        batch = training_batch(run, example, predicted)
        read = realm.forward(run.config, params, batch, None)
        prior, logp = read.prior, read.logp
        shares = {block.block: block.probability for block in found.blocks}
        assert sum(shares.values()) == pytest.approx(1, abs=1e-5) and found.null_share == shares[-1]
        np.testing.assert_allclose(sorted(shares.values()), np.sort(np.exp(prior[0])), rtol=1e-4)
        total = np.exp(marginal.token_marginal_logp(prior, logp))[0]
        for j, blank in enumerate(found.blanks):
            assert blank[0].probability == pytest.approx(float(total[j]), rel=1e-4)
            null = run.data.tokenizer.token_to_id(found.null_guesses[j].wordpiece)
            assert (null == best[j]) == bool(read.hits[0, 0, j])


def test_guesses_are_sorted_and_blocks_are_those_of_the_corpus(run, sentences):
    found = run.filler.fill(sentences[0][0])
    shares = [block.probability for block in found.blocks]
    assert shares == sorted(shares, reverse=True) and len(shares) == run.config.pretrain.num_candidates
    for blank in found.blanks:
        p = [guess.probability for guess in blank]
        assert p == sorted(p, reverse=True) and len(p) == 5 and 0 < sum(p) < 1
    for block in found.blocks:
        if block.block >= 0:
            stored = run.data.knowledge.block(block.block)
            assert (block.source_id, block.title, block.text) == (stored.source_id, stored.title, stored.text)


def test_without_a_null_block_in_training_it_is_no_candidate(run, sentences):
    config = dataclasses.replace(run.config, pretrain=dataclasses.replace(run.config.pretrain, null_block=False))
    found = MaskFiller(config, run.data, run.params, run.index).fill(sentences[0][0])
    assert found.null_share == 0 and all(block.block >= 0 for block in found.blocks)
    assert sum(block.probability for block in found.blocks) == pytest.approx(1, abs=1e-5)
    assert len(found.null_guesses) == len(found.blanks)  # still shown: what the encoder says without text


@pytest.mark.parametrize(
    "text",
    [
        "[MASK]",
        "[MASK][mask] [MASK] and [MASK]",
        "The [MASK] " + "of the river " * 800,
        "river " * 2000 + "[MASK]",
        "[MASK] 日本 🙂",
        "عاصمة [MASK]",
        "[SEP] [CLS] [MASK] [PAD]",
    ],
    ids=["only", "several", "10,000 characters", "at the end", "Chinese and emoji", "Arabic", "special"],
)
def test_every_text_with_a_blank_is_filled_without_compiling_again(run, text, sentences, caplog):
    run.filler.fill(sentences[0][0])
    with jax.log_compiles():
        found = run.filler.fill(text)
    assert not [record for record in caplog.records if "ompil" in record.getMessage()]
    assert len(found.blanks) == min(text.lower().count("[mask]"), run.config.pretrain.max_masks) == len(found.parts) - 1
    assert sum(block.probability for block in found.blocks) == pytest.approx(1, abs=1e-5)
