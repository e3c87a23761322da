"""The tagger: casings change nothing at first, padding never does, and labels become spans by hand."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from realm_jax.batches import TaggerInput, Tokens
from realm_jax.config import ModelConfig
from realm_jax.records import Span
from realm_jax.tagging import tagger_model
from realm_jax.tagging.bio import label_set, transition_scores
from realm_jax.tagging.words import CASINGS, Words

CONFIG = ModelConfig(
    vocab_size=20, hidden_size=16, num_layers=2, num_heads=2, intermediate_size=24, max_positions=12, dropout=0.0
)
LABELS = label_set(("PER", "LOC"))


@pytest.fixture(scope="module")
def params():
    return jax.device_get(tagger_model.init(CONFIG, len(LABELS), jax.random.key(0)))


def sentences(length=8, used=(8, 5)):
    rng = np.random.default_rng(1)
    mask = np.arange(length) < np.array(used)[:, None]
    ids = rng.integers(0, CONFIG.vocab_size, (2, 8))[:, :length].astype(np.int32) * mask
    casings = rng.integers(0, len(CASINGS), (2, 8))[:, :length].astype(np.int32)
    return TaggerInput(Tokens(ids, mask, np.zeros_like(ids)), casings, mask)


def logits(params, batch, **kwargs):
    return np.asarray(tagger_model.label_logits(CONFIG, len(LABELS), params, batch, **kwargs))


def test_casings_make_no_difference_at_first_and_one_later(params):
    batch = sentences()
    other = dataclasses.replace(batch, casings=(batch.casings + 1) % len(CASINGS))
    assert logits(params, batch).shape == (2, 8, len(LABELS))
    np.testing.assert_array_equal(logits(params, batch), logits(params, other))
    table = np.random.default_rng(2).normal(0, 0.1, params["casing"]["embedding"].shape).astype(np.float32)
    moved = params | {"casing": {"embedding": table}}
    assert np.abs(logits(moved, batch) - logits(moved, other)).max() > 1e-4


def test_padding_makes_no_difference(params):
    long, short = logits(params, sentences())[1, :5], logits(params, sentences(length=5, used=(5, 5)))[1]
    np.testing.assert_allclose(long, short, atol=1e-5)


def test_dropout_only_with_a_key(params):
    config = dataclasses.replace(CONFIG, dropout=0.5)
    one, other = (
        tagger_model.label_logits(config, len(LABELS), params, sentences(), jax.random.key(seed)) for seed in (0, 1)
    )
    assert np.abs(one - other).max() > 0
    np.testing.assert_array_equal(
        tagger_model.label_logits(config, len(LABELS), params, sentences()), logits(params, sentences())
    )


@pytest.mark.parametrize("seed", range(5))
def test_best_labels_are_the_best_of_all_sequences(seed):
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (3, 7, len(LABELS))).astype(np.float32)
    is_first = rng.random((3, 7)) < 0.5
    transitions = rng.normal(0, 2, (len(LABELS) + 1, len(LABELS))).astype(np.float32)
    found = np.asarray(tagger_model.best_labels(jnp.asarray(logits), jnp.asarray(is_first), jnp.asarray(transitions)))
    logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    for row in range(3):
        words = np.flatnonzero(is_first[row])

        def worth(labels, row=row, words=words):
            pairs = zip([len(LABELS), *labels], labels, strict=False)
            return sum(logp[row, words, labels]) + sum(transitions[a, b] for a, b in pairs)

        best = max(itertools.product(range(len(LABELS)), repeat=len(words)), key=lambda labels: worth(list(labels)))
        assert found[row, words].tolist() == list(best)


def test_transitions_make_the_words_of_an_entity_agree():
    sequences = [np.array([0, 1, 2, 0])] * 50 + [np.array([0, 3, 4, 4])] * 50  # O PER PER O, O LOC LOC LOC
    transitions = transition_scores(sequences, len(LABELS))
    assert transitions.shape == (len(LABELS) + 1, len(LABELS)) and np.isfinite(transitions).all()
    logits = np.log(
        np.array([[[0.9, 0.025, 0.025, 0.025, 0.025], [0, 0.5, 0, 0.4, 0.1], [0, 0, 0.1, 0.1, 0.8]]]) + 1e-3
    )
    every = np.ones((1, 3), bool)
    best = [
        tagger_model.best_labels(jnp.asarray(logits, jnp.float32), jnp.asarray(every), jnp.asarray(table)).tolist()[0]
        for table in (np.zeros_like(transitions), transitions)
    ]
    assert best == [[0, 1, 4], [0, 3, 4]]


def test_labels_stand_at_first_wordpieces_and_become_spans():
    text = "Jean-Luc saw New York"
    words = Words(
        ids=list(range(8)),
        casings=[0] * 8,
        firsts=[0, 2, 3, 4, 5, 7],  # the first and the fifth word have two wordpieces
        starts=[0, 4, 5, 9, 13, 17],
        limits=[4, 5, 8, 12, 16, 21],
    )
    label_ids = np.array([0, 1, 4, 2, 2, 0, 3, 0, 4, 0])  # [CLS], eight wordpieces, [SEP]
    labels = tagger_model.word_labels(words, label_ids, LABELS)
    assert labels == ["B-PER", "I-PER", "I-PER", "O", "B-LOC", "I-LOC"]
    spans = tagger_model.entities(words, labels)
    assert spans == [Span(0, 8, "PER"), Span(13, 21, "LOC")]
    assert [text[s.start : s.limit] for s in spans] == ["Jean-Luc", "New York"]
    assert tagger_model.word_labels(words, label_ids[:7], LABELS) == ["B-PER", "I-PER", "I-PER", "O", "O", "O"]
