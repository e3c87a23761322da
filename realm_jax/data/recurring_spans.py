"""Which salient spans have a text that is also a span of another article, found with little memory.

The spans' hashes are dealt out to files by their value, so that equal texts meet in one file; each file is then sorted
by itself. A file holds about PART_ROWS spans, however many there are.
"""

import pathlib

import numpy as np
from jaxtyping import Bool

from realm_jax.data.corpus import Corpus
from realm_jax.data.table_chunks import ordinal_dtype, table_chunks

PART_ROWS = 1 << 20


def recurring_spans(corpus: Corpus, work: pathlib.Path) -> Bool[np.ndarray, " spans"]:
    """Marks the spans, over all segments, whose text is a span of another article, too; deleted blocks count.

    Args:
        work: an empty local folder, for 16 to 20 bytes a span; the result is a memory map of a file in it.
    """
    total = sum(len(segment.spans) for segment in corpus.segments)
    marks = np.memmap(work / "recurs.bin", bool, "w+", shape=max(total, 1))[:total]
    for part in _deal_out(corpus, work, total):
        found = np.fromfile(part, _dealt(total))
        part.unlink()
        found = found[np.argsort(found["text"], kind="stable")]
        starts = np.flatnonzero(np.append(True, found["text"][1:] != found["text"][:-1]))
        lowest = np.minimum.reduceat(found["article"], starts)
        highest = np.maximum.reduceat(found["article"], starts)
        marks[found["ordinal"]] = np.repeat(lowest != highest, np.diff(np.append(starts, len(found))))
    return marks


def _dealt(total: int) -> np.dtype:
    return np.dtype([("text", "<u8"), ("article", "<u4"), ("ordinal", ordinal_dtype(total))])


def _deal_out(corpus: Corpus, work: pathlib.Path, total: int) -> list[pathlib.Path]:
    """Writes every span into one of some files, by the hash of its text; returns the files that have any."""
    parts = [work / f"part-{number}.bin" for number in range(1 + total // PART_ROWS)]
    articles, first = {}, 0
    for segment in corpus.segments:
        articles[segment.first_block] = first
        first += len(segment.sources)
    for segment, start, table in table_chunks(corpus, "spans"):
        rows = np.empty(len(table), _dealt(total))
        rows["text"] = table["text_hash"]
        rows["article"] = segment.blocks["source"][table["block"]] + articles[segment.first_block]
        rows["ordinal"] = np.arange(start, start + len(table))
        numbers = rows["text"] % len(parts)
        rows = rows[np.argsort(numbers, kind="stable")]
        ends = np.cumsum(np.bincount(numbers.astype(np.int64), minlength=len(parts)))
        for part, of_part in zip(parts, np.split(rows, ends[:-1]), strict=True):
            if len(of_part):
                with part.open("ab") as file:
                    file.write(of_part.tobytes())
    return [part for part in parts if part.exists()]
