"""Masking policies and masked queries against their definitions."""

import numpy as np
import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from realm_jax.config import ConfigError
from realm_jax.data import masking

IDS = masking.SpecialIds(cls=2, sep=3, mask=4, pad=0)


def query_of(tokens, positions, *, query_len_tokens=16, max_masks=10):
    tokens, positions = np.array(tokens, np.uint16), np.array(positions, int)
    return masking.masked_query(tokens, positions, query_len_tokens, max_masks, IDS)


def test_masked_query_by_hand():
    query, positions, targets, weights = query_of([10, 11, 12, 13], [1, 2], query_len_tokens=8, max_masks=3)
    assert query.ids.tolist() == [2, 10, 4, 4, 13, 3, 0, 0]
    assert query.mask.tolist() == [True] * 6 + [False] * 2
    assert query.types.tolist() == [0] * 8
    assert positions.tolist() == [2, 3, 0]
    assert targets.tolist() == [11, 12, 0]
    assert weights.tolist() == [1, 1, 0]
    assert [a.dtype for a in (query.ids, query.mask, query.types)] == [np.int32, np.bool_, np.int32]
    assert [a.dtype for a in (positions, targets, weights)] == [np.int32, np.int32, np.float32]


def test_long_span_is_masked_whole_and_predicted_in_part():
    query, positions, targets, weights = query_of(range(100, 114), range(12), max_masks=10)
    assert query.ids.tolist() == [2] + [4] * 12 + [112, 113, 3]
    assert positions.tolist() == list(range(1, 11))
    assert targets.tolist() == list(range(100, 110))
    assert weights.sum() == 10


def test_truncated_sentence_ends_in_sep():
    query, *_ = query_of(range(100, 150), [13], query_len_tokens=16)
    assert query.ids.tolist() == [2, *range(100, 113), 4, 3]
    assert query.mask.all()


@pytest.mark.parametrize("positions", [[14], [3, 40], [50], []])
def test_positions_outside_the_query_raise(positions):
    with pytest.raises(ValueError, match="14 wordpieces"):
        query_of(range(100, 150), positions, query_len_tokens=16)


def test_position_past_the_sentence_raises():
    with pytest.raises(ValueError, match="4 wordpieces"):
        query_of([10, 11, 12, 13], [4])


@given(st.data())
def test_targets_restore_the_sentence(data):
    tokens = data.draw(st.lists(st.integers(5, 65535), min_size=1, max_size=40))
    query_len = data.draw(st.integers(3, 50))
    fits = min(len(tokens), query_len - 2)
    positions = sorted(data.draw(st.sets(st.integers(0, fits - 1), min_size=1)))
    max_masks = data.draw(st.integers(len(positions), len(positions) + 3))
    query, at, targets, weights = query_of(tokens, positions, query_len_tokens=query_len, max_masks=max_masks)
    assert (query.ids == IDS.mask).sum() == len(positions) == weights.sum()
    restored = query.ids.copy()
    restored[at[weights > 0]] = targets[weights > 0]
    expected = [IDS.cls, *tokens[:fits], IDS.sep]
    assert restored.tolist() == expected + [IDS.pad] * (query_len - len(expected))
    assert query.mask.sum() == len(expected)


@given(st.integers(1, 300), st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_uniform_positions_are_distinct_sorted_and_bounded(num_tokens, max_masks, seed):
    positions = masking.choose_uniform(num_tokens, np.random.default_rng(seed), max_masks=max_masks)
    assert 1 <= len(positions) <= min(max_masks, num_tokens)
    assert (np.diff(positions) > 0).all()
    assert 0 <= positions[0] and positions[-1] < num_tokens


def test_uniform_rate_and_even_coverage():
    rng = np.random.default_rng(0)
    draws = [masking.choose_uniform(40, rng, max_masks=10) for _ in range(4000)]
    assert {len(d) for d in draws} == {6}  # 15% of 40
    counts = np.bincount(np.concatenate(draws), minlength=40)
    np.testing.assert_allclose(counts, 600, atol=100)  # standard deviation 22.6
    assert len(masking.choose_uniform(200, rng, max_masks=10)) == 10


@given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 2**32 - 1))
def test_span_lies_in_the_sentence(num_tokens, max_width, seed):
    start, limit = masking.choose_span(num_tokens, np.random.default_rng(seed), max_width=max_width)
    assert 0 <= start < limit <= num_tokens
    assert limit - start <= max_width


def test_span_widths_are_truncated_geometric_and_starts_uniform():
    rng = np.random.default_rng(0)
    spans = np.array([masking.choose_span(12, rng, max_width=10) for _ in range(8000)])
    widths = spans[:, 1] - spans[:, 0]
    # P(w) is proportional to the chance that a coin of probability 0.2 first shows heads at toss w.
    chances = np.array([0.2 * 0.8 ** (w - 1) for w in range(1, 11)])
    chances /= sum(chances)
    np.testing.assert_allclose(np.bincount(widths, minlength=11)[1:] / 8000, chances, atol=0.02)
    assert abs(widths.mean() - 3.8) < 0.1  # SpanBERT, figure 2
    starts = spans[widths == 1, 0]
    np.testing.assert_allclose(np.bincount(starts, minlength=12) / len(starts), 1 / 12, atol=0.03)


def test_choices_depend_on_the_seed_only():
    for seed in (0, 1):
        a, b = np.random.default_rng(seed), np.random.default_rng(seed)
        assert masking.choose_span(30, a, max_width=10) == masking.choose_span(30, b, max_width=10)
        np.testing.assert_array_equal(
            masking.choose_uniform(30, a, max_masks=10), masking.choose_uniform(30, b, max_masks=10)
        )


def tokenizer_with(*tokens):
    vocab = {token: i for i, token in enumerate(tokens)}
    return tokenizers.Tokenizer(tokenizers.models.WordPiece(vocab, unk_token="[UNK]"))


def test_special_ids_come_from_the_vocabulary():
    tokenizer = tokenizer_with("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a")
    assert masking.SpecialIds.from_tokenizer(tokenizer) == IDS


def test_missing_special_token_is_named():
    with pytest.raises(ConfigError, match=r"\[MASK\]"):
        masking.SpecialIds.from_tokenizer(tokenizer_with("[PAD]", "[UNK]", "[CLS]", "[SEP]"))
