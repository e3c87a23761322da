"""The block with the masked span, from further down the ranking, against a search of texts block by block."""

import dataclasses

import numpy as np
import pytest

from realm_jax.data.pipeline import Examples, MaskedSentences
from realm_jax.data.prepare import open_prepared
from realm_jax.index.answer_block import has_span, with_answer

DEPTH, COUNT = 30, 3


def stands_in(wanted, tokens) -> bool:
    wanted, tokens = (" ".join(str(int(token)) for token in of) for of in (wanted, tokens))
    return f" {wanted} " in f" {tokens} "


@pytest.fixture(scope="module")
def case(tiny_run):
    """Queries with random blocks, and by plain search which of these have the span."""
    data, policy = open_prepared(tiny_run), dataclasses.replace(tiny_run.config.pretrain, sampling="span")
    knowledge, sentences = data.knowledge, MaskedSentences(data.text, data.special, policy, 0.0)
    queries = Examples(len(sentences), sentences.example, seed=0).batch(0, 64)
    found = np.random.default_rng(0).permuted(np.tile(np.arange(knowledge.num_blocks), (64, 1)), axis=1)[:, :DEPTH]
    found[5, 7:], found[6] = -1, -1
    spans = [row[used > 0] for row, used in zip(queries.mask_targets, queries.mask_weights, strict=True)]
    holds = [
        [block >= 0 and stands_in(span, knowledge.body(int(block))) for block in row]
        for row, span in zip(found, spans, strict=True)
    ]
    return queries, found.astype(np.int32), np.array(holds), knowledge


def test_a_block_has_the_span_where_its_body_has_the_wordpieces_in_a_row(case):
    queries, found, holds, knowledge = case
    assert 0 < holds.sum() < holds.size / 2 and {1, 2} <= set(queries.mask_weights.sum(1).astype(int))
    np.testing.assert_array_equal(has_span(found, queries, knowledge), holds)


def test_the_first_further_down_becomes_the_last_candidate_where_none_has_it(case):
    queries, found, holds, knowledge = case
    candidates, changed = with_answer(found, COUNT, queries, knowledge), 0
    for row, has, chosen in zip(found, holds, candidates, strict=True):
        below = np.flatnonzero(has)
        wanted = [*row[: COUNT - 1], row[below[0]] if len(below) and below[0] >= COUNT else row[COUNT - 1]]
        changed += wanted[-1] != row[COUNT - 1]
        assert chosen.tolist() == wanted
    assert 0 < changed < len(found)
