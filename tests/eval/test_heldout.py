"""Held-out sentences: which they are, and how the figures of a state hang together."""

import dataclasses

import numpy as np
import pytest

from realm_jax.config import ConfigError
from realm_jax.data.prepare import open_prepared
from realm_jax.eval.heldout import evaluate, heldout_set
from realm_jax.index.answer_block import has_span
from realm_jax.index.probe import KS
from realm_jax.training import phases

EVAL_EXAMPLES, RECALL_EXAMPLES = 20, 30
LOSSES = tuple(f"{kind}_{read}" for kind in ("loss", "accuracy", "right") for read in ("retrieved", "random", "null"))


@pytest.fixture(scope="module")
def judged(tiny_run):
    """(config, data, held-out set, values, index) of the first weights."""
    config = tiny_run.config
    sizes = {"eval_examples": EVAL_EXAMPLES, "recall_examples": RECALL_EXAMPLES}
    config = dataclasses.replace(config, pretrain=dataclasses.replace(config.pretrain, **sizes))
    data = open_prepared(tiny_run)
    heldout = heldout_set(config, data)
    values, index = evaluate(config, data, heldout, phases.first_params(tiny_run), "first")
    return config, data, heldout, values, index


def test_an_answer_stands_in_its_own_block_and_in_no_missing_one(judged):
    _, data, heldout, _, _ = judged
    own = heldout.queries.source_block[:, None]
    assert has_span(own, heldout.queries, data.knowledge).all()
    assert not has_span(np.full_like(own, -1), heldout.queries, data.knowledge).any()


def test_the_set_is_held_out_and_the_same_each_time(judged, tiny_run):
    config, data, heldout, _, _ = judged
    assert data.text.heldout(config.corpus.heldout_fraction)[heldout.queries.source_block].all()
    again = heldout_set(config, open_prepared(tiny_run))
    np.testing.assert_array_equal(again.queries.query.ids, heldout.queries.query.ids)
    np.testing.assert_array_equal(again.random_blocks, heldout.random_blocks)
    assert len(heldout.answers) == len(heldout.random_blocks) <= RECALL_EXAMPLES


def test_an_answer_is_what_its_query_hides(judged):
    _, _, heldout, _, _ = judged
    queries = heldout.queries
    for answer, targets, weights in zip(heldout.answers, queries.mask_targets, queries.mask_weights, strict=True):
        predicted = targets[weights > 0]
        assert predicted.tolist() == answer[: len(predicted)].tolist() and len(predicted)


def test_hard_sentences_lack_a_span_and_the_words_of_the_title(judged):
    """What docs, reports and README call hard: the plain sentence but for a masked span and the title's wordpieces."""
    config, data, heldout, _, _ = judged
    probe, with_title, room = heldout.probe, 0, config.pretrain.query_len_tokens - 2
    for own, plain, hard in zip(probe.own_block, wordpieces(probe.plain), wordpieces(probe.hard), strict=True):
        body, title = data.knowledge.body(own).tolist(), data.knowledge.title(own).tolist()
        sentences = [body[row["token_start"] : row["token_limit"]] for row in data.knowledge.sentences(own)]
        (whole,) = [sentence for sentence in sentences if sentence[:room] == plain]
        masked = with_a_mask(whole, hard.count(data.special.mask), data.special.mask)
        assert hard in [[piece for piece in sentence if piece not in title][:room] for sentence in masked]
        with_title += any(piece in title for piece in whole)
    assert with_title


def with_a_mask(sentence: list[int], length: int, mask: int) -> list[list[int]]:
    """The sentence with each of its spans of this length masked."""
    assert length > 0
    starts = range(len(sentence) - length + 1)
    return [sentence[:i] + [mask] * length + sentence[i + length :] for i in starts]


def wordpieces(tokens) -> list[list[int]]:
    """Wordpieces of each row, without [CLS] and [SEP]."""
    return [ids[mask][1:-1].tolist() for ids, mask in zip(tokens.ids, tokens.mask, strict=True)]


def test_every_measure_has_one_value_per_example(judged):
    config, data, heldout, values, index = judged
    assert {len(values[name]) for name in ("answer_retrieved", "answer_random")} == {len(heldout.answers)}
    recalls = {f"{kind}_recall@{k}" for kind in ("plain", "hard") for k in KS}
    assert {len(values[name]) for name in recalls} == {len(heldout.probe.own_block)}
    read = {*LOSSES, "utility", "null_share"}
    assert {len(values[name]) for name in read} == {min(EVAL_EXAMPLES, len(heldout.answers))}
    assert set(values) == {"answer_retrieved", "answer_random"} | recalls | read
    assert index.embeddings.shape == (data.knowledge.num_blocks, config.model.projection_dim)


def test_utility_is_the_loss_that_retrieval_saves(judged):
    values = judged[3]
    np.testing.assert_allclose(values["utility"], values["loss_null"] - values["loss_retrieved"], atol=1e-6)
    assert np.abs(values["utility"]).max() > 0
    assert all(np.isfinite(values[name]).all() for name in values)
    assert all(((values[name] >= 0) & (values[name] <= 1 + 1e-6)).all() for name in ("null_share", *LOSSES[3:]))
    # Weights at random know nothing: about log(vocabulary) nats for each wordpiece.
    assert values["loss_null"].mean() == pytest.approx(np.log(judged[0].model.vocab_size), rel=0.1)


def test_recall_grows_with_k(judged):
    values = judged[3]
    for kind in ("plain", "hard"):
        for few, many in zip(KS, KS[1:], strict=False):
            assert (values[f"{kind}_recall@{few}"] <= values[f"{kind}_recall@{many}"]).all()


def test_an_example_is_judged_alone(judged, tiny_run):
    config, data, heldout, values, _ = judged
    few = dataclasses.replace(config, pretrain=dataclasses.replace(config.pretrain, eval_examples=3))
    again, _ = evaluate(few, data, heldout, phases.first_params(tiny_run), "again")
    for name in (*LOSSES, "utility", "null_share"):
        np.testing.assert_allclose(again[name], values[name][:3], rtol=1e-4, atol=1e-5)


def test_without_an_encoder_only_retrieval_is_judged(judged, tiny_run):
    config, data, heldout, values, _ = judged
    retriever = {"embedder": phases.first_params(tiny_run)["embedder"]}
    again, _ = evaluate(config, data, heldout, retriever, "retriever")
    assert "utility" not in again and "loss_null" not in again
    for name, value in again.items():
        np.testing.assert_array_equal(value, values[name])


def test_a_corpus_without_held_out_articles_is_an_error(judged):
    config, data = judged[:2]
    none = dataclasses.replace(config, corpus=dataclasses.replace(config.corpus, heldout_fraction=0.0))
    with pytest.raises(ConfigError, match="no held-out sentence can be masked"):
        heldout_set(none, data)
