"""Masking policies against their definitions."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from realm_jax.data import masking


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
