"""A table of all segments of a corpus, some rows at a time: no more of it is in memory, however large the corpus."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int64, Shaped

from realm_jax.data.corpus import Corpus
from realm_jax.data.segment import Segment

CHUNK_ROWS = 1 << 18


def table_chunks(corpus: Corpus, column: str) -> Iterator[tuple[Segment, int, Shaped[np.ndarray, " rows"]]]:
    """Yields (segment, ordinal of the first row over all segments, rows of `column`), in order."""
    first = 0
    for segment in corpus.segments:
        table = getattr(segment, column)
        for start in range(0, len(table), CHUNK_ROWS):
            yield segment, first + start, table[start : start + CHUNK_ROWS]
        first += len(table)


def block_ordinals(segment: Segment, rows: Shaped[np.ndarray, " rows"]) -> Int64[np.ndarray, " rows"]:
    """Finds the block, over all segments, of each of some spans or sentences of a segment."""
    return rows["block"].astype(np.int64) + segment.first_block


def ordinal_dtype(total: int) -> np.dtype:
    """Chooses the smallest type that counts up to `total`."""
    return np.dtype("<u4") if total < 1 << 32 else np.dtype("<u8")
