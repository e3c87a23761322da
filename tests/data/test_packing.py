"""Packing: nothing is lost, nothing overlaps, and rows are few."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from realm_jax.batches import Tokens
from realm_jax.data.packing import FLAT_STEP, Packing, starts_in_rows

ROW = 16


def tokens_of(lengths) -> Tokens:
    """Random wordpieces, in the padding too."""
    rng, mask = np.random.default_rng(0), np.arange(ROW) < np.asarray(lengths)[..., None]
    return Tokens(rng.integers(1, 99, mask.shape, np.int32), mask, rng.integers(0, 2, mask.shape, np.int32))


@hypothesis.settings(deadline=None, derandomize=True, database=None)
@hypothesis.given(st.lists(st.integers(1, ROW), min_size=1, max_size=40))
def test_sequences_lie_side_by_side(lengths):
    starts, rows = starts_in_rows(np.array(lengths), ROW)
    taken = np.zeros(rows * ROW, int)
    for start, length in zip(starts, lengths, strict=True):
        assert start // ROW == (start + length - 1) // ROW  # within one row
        taken[start : start + length] += 1
    assert taken.max() == 1 and taken.sum() == sum(lengths)
    assert taken.reshape(rows, ROW).any(1).all()
    fullest = np.sort(taken.reshape(rows, ROW).sum(1))
    assert rows == 1 or fullest[0] + fullest[1] > ROW  # else they would share a row


def test_rows_are_nearly_full():
    """Lengths as of Wikipedia's leads: packed, 28 of them need 2 rows more than their sum at most."""
    rng = np.random.default_rng(1)
    for _ in range(20):
        lengths = np.clip(rng.normal(100, 45, 28).astype(int), 13, 288)
        _, rows = starts_in_rows(lengths, 288)
        assert rows <= -(-lengths.sum() // 288) + 2


@pytest.mark.parametrize("is_flat", [True, False])
@pytest.mark.parametrize("parts", [1, 2, 6])
def test_every_sequence_is_where_it_is_said_to_be(parts, is_flat):
    tokens = tokens_of(np.random.default_rng(3).integers(1, ROW + 1, (4, 3)))
    packing = Packing(tokens, parts, is_flat=is_flat)
    packed = packing.packed(packing.rows + 1)
    rows = packing.rows + 1
    assert packed.ids.shape == ((parts, 1, FLAT_STEP * rows) if is_flat else (parts, rows, ROW))
    assert packed.longest == ROW
    assert packed.starts.shape == packed.lengths.shape == (parts, 12 // parts)
    assert packed.mask.sum() == tokens.mask.sum()
    ids, types, mask = (x.reshape(parts, -1, ROW) for x in (tokens.ids, tokens.types, tokens.mask))
    for part in range(parts):
        flat = {name: getattr(packed, name)[part].reshape(-1) for name in ("ids", "types", "sequences", "places")}
        for number, (start, length) in enumerate(zip(packed.starts[part], packed.lengths[part], strict=True)):
            rows, real = slice(start, start + length), mask[part, number]
            np.testing.assert_array_equal(flat["ids"][rows], ids[part, number][real])
            np.testing.assert_array_equal(flat["types"][rows], types[part, number][real])
            np.testing.assert_array_equal(flat["places"][rows], np.arange(length))
            assert set(flat["sequences"][rows]) == {number + 1}
        assert not any(flat[name][flat["sequences"] == 0].any() for name in flat)


@pytest.mark.parametrize("is_flat", [True, False])
def test_rows_are_as_many_as_the_fullest_part_needs_and_the_longest_would_need(is_flat):
    lengths = np.random.default_rng(4).integers(1, ROW + 1, (20, 3))
    packing = Packing(tokens_of(lengths), 2, is_flat=is_flat)
    row, part = (FLAT_STEP if is_flat else ROW), lengths.reshape(2, -1).sum(1).max()
    assert packing.row_length == row and -(-part // row) <= packing.rows <= packing.most == -(-30 * ROW // row)
    assert not is_flat or packing.rows == -(-part // row)
    assert packing.deviation == pytest.approx(np.sqrt(10) * lengths.sum(1).std() / row)
