"""Packs sequences end to end into rows, so that little padding is computed.

In rows of the greatest length, best fit, the longest sequences first: those of Wikipedia's leads come out 93 to 99%
full, where one sequence a row fills 37%. Or flat: all sequences of a part in one row, which is full but for its end. A
BERT sees which wordpieces belong together by `Packed.sequences`.
"""

import bisect

import numpy as np
from jaxtyping import Int

from realm_jax.batches import Packed, Tokens

FLAT_STEP = 64
"""The length of a flat row is a multiple of it."""


def starts_in_rows(
    lengths: Int[np.ndarray, " sequences"], row_length: int
) -> tuple[Int[np.ndarray, " sequences"], int]:
    """Places sequences in rows.

    Args:
        lengths: at most `row_length` each.

    Returns:
        where each begins in the rows, laid end to end; and how many rows there are.
    """
    starts = np.zeros(len(lengths), np.int32)
    free: list[tuple[int, int]] = []  # (positions left, row), the fullest rows first
    rows = 0
    for i in np.argsort(-lengths, kind="stable").tolist():
        length = int(lengths[i])
        at = bisect.bisect_left(free, (length, 0))
        if at < len(free):
            left, row = free.pop(at)
        else:
            left, row = row_length, rows
            rows += 1
        starts[i] = (row + 1) * row_length - left
        bisect.insort(free, (left - length, row))
    return starts, rows


class Packing:
    """A batch of sequences with their places in rows, before the number of rows is decided.

    Args:
        tokens: [batch, tokens], or [batch, candidates, tokens].
        parts: how many parts the sequences are split into, in their order; must divide their number.
        is_flat: whether each part is one row, of as many times `FLAT_STEP` positions as are needed.
    """

    def __init__(self, tokens: Tokens, parts: int, *, is_flat: bool = False):
        self.longest, self._tokens, self._is_flat = tokens.ids.shape[-1], tokens, is_flat
        self.row_length = FLAT_STEP if is_flat else self.longest
        """Positions of what is counted as a row."""
        self._lengths = tokens.mask.sum(-1).reshape(parts, -1).astype(np.int32)
        if is_flat:
            self._starts = np.cumsum(self._lengths, axis=1, dtype=np.int32) - self._lengths
            rows = -(-int(self._lengths.sum(1).max()) // FLAT_STEP)
        else:
            placed = [starts_in_rows(lengths, self.row_length) for lengths in self._lengths]
            self._starts, rows = np.stack([starts for starts, _ in placed]), max(rows for _, rows in placed)
        self.rows = rows
        """How many rows each part needs."""
        self.most = -(-self._lengths.shape[1] * self.longest // self.row_length)
        """Rows if each sequence were a longest one."""
        of_queries = tokens.mask.reshape(len(tokens.mask), -1).sum(1)  # candidates of one query are alike
        self.deviation = float((len(of_queries) / parts) ** 0.5 * of_queries.std() / self.row_length)
        """Standard deviation of the rows that as many other queries of such lengths need."""

    def packed(self, rows: int) -> Packed:
        """The sequences in `rows` rows a part, at least `self.rows`."""
        parts, sequences = self._lengths.shape
        lengths = self._lengths.reshape(-1)
        starts = (self._starts + rows * self.row_length * np.arange(parts)[:, None]).reshape(-1)
        before = np.cumsum(lengths) - lengths
        place = np.arange(lengths.sum()) - np.repeat(before, lengths)
        at = np.repeat(starts, lengths) + place
        real = self._tokens.mask.reshape(-1)
        shape = (parts, 1, rows * self.row_length) if self._is_flat else (parts, rows, self.row_length)

        def spread(values):
            rows_of_all = np.zeros(shape, np.int32)
            rows_of_all.reshape(-1)[at] = values
            return rows_of_all

        return Packed(
            ids=spread(self._tokens.ids.reshape(-1)[real]),
            types=spread(self._tokens.types.reshape(-1)[real]),
            sequences=spread(np.repeat(np.tile(np.arange(1, sequences + 1), parts), lengths)),
            places=spread(place),
            starts=self._starts,
            lengths=self._lengths,
            longest=self.longest,
        )
