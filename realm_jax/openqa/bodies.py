"""Bodies of many blocks at once, as they were stored: their text, or their wordpieces."""

from typing import Literal

import numpy as np
from jaxtyping import Int

from realm_jax.data.corpus import Corpus

Column = Literal["text", "tokens"]
BETWEEN_BODIES = {"text": b"\xff", "tokens": b"\xff\xff"}
"""Stands between two bodies: a byte that is in no UTF-8, or a number that no vocabulary reaches."""


def joined(
    corpus: Corpus, blocks: Int[np.ndarray, " blocks"], column: Column
) -> tuple[bytes, Int[np.ndarray, " blocks"]]:
    """The bodies one after the other, and where each begins, in bytes of text or in wordpieces (of two bytes each)."""
    pieces = stored(corpus, blocks, column)
    starts = np.cumsum([0, *(len(piece) + 1 for piece in pieces)])[:-1]
    return BETWEEN_BODIES[column].join(pieces), starts


def stored(corpus: Corpus, blocks: Int[np.ndarray, " blocks"], column: Column) -> list[memoryview]:
    """The stored bytes or wordpieces of each block's body."""
    pieces: list[memoryview] = [memoryview(b"")] * len(blocks)
    field = column.removesuffix("s")
    firsts = [segment.first_block for segment in corpus.segments]
    which = np.searchsorted(firsts, blocks, side="right") - 1
    for i in np.unique(which):
        segment, rows = corpus.segments[i], np.flatnonzero(which == i)
        chosen = segment.blocks[blocks[rows] - segment.first_block]
        view = memoryview(getattr(segment, column))
        limits = zip(chosen[f"{field}_start"].tolist(), chosen[f"{field}_limit"].tolist(), strict=True)
        for row, (start, limit) in zip(rows.tolist(), limits, strict=True):
            pieces[row] = view[start:limit]
    return pieces
