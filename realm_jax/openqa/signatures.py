"""Tells in a few nanoseconds that a block does not have an answer, so that few blocks have to be read for it.

A signature (Faloutsos and Christodoulakis 1984) is a set of bits for each block, one for each of its wordpieces, or for
each three neighbouring bytes of its text; different ones may share a bit. A block lacks what has a bit that its
signature lacks. Whether it has the rest is read in the block itself, so no result depends on the signatures.
"""

import threading

import numpy as np
from jaxtyping import Int, UInt8, UInt16

from realm_jax.data.corpus import Corpus
from realm_jax.openqa.bodies import Column, joined

BITS = 2048  # of a signature; a text of 288 wordpieces sets about a third of them
MADE_AT_ONCE = 512  # blocks; their bits fit a processor's cache while they are set


class Signatures:
    """Signatures of one corpus's bodies: 256 bytes of memory for each that is made.

    A block gets its signature when it is asked for a second time. To make it takes as long as to look through the
    block's body three times or so, which is in vain for blocks that are met once.
    """

    def __init__(self, corpus: Corpus, column: Column):
        self._corpus, self._column = corpus, column
        self._dtype = np.dtype(np.uint8 if column == "text" else np.uint16)
        # Pages of both take memory only when they are written.
        self._was_met = np.zeros(corpus.num_blocks, bool)
        self._row = np.zeros(corpus.num_blocks, np.int32)  # 0: not made yet
        self._rows = np.empty((1 + corpus.num_blocks, BITS // 8), np.uint8)
        self._rows[0] = 0xFF  # may have anything
        self._filled = 1
        self._lock = threading.Lock()

    def may_have(self, blocks: Int[np.ndarray, " blocks"], wanted: bytes) -> Int[np.ndarray, " found"]:
        """Places in `blocks` whose body may have `wanted`, in ascending order: all that have it, and some others.

        Args:
            blocks: ordinals, none of them -1.
            wanted: bytes of text, or uint16 wordpieces, that have to stand in a row.
        """
        self._meet(blocks)
        places, starts = np.arange(len(blocks)), self._row[blocks].astype(np.int64) * (BITS // 8)
        stored = self._rows.reshape(-1)
        for bit in set(_bits(np.frombuffer(wanted, self._dtype)).tolist()):
            kept = np.flatnonzero(stored[starts + (bit >> 3)] & (1 << (bit & 7)))
            places, starts = places[kept], starts[kept]
        return places

    def _meet(self, blocks: np.ndarray) -> None:
        """Makes the signatures of the blocks that were met before and have none yet."""
        new = blocks[self._row[blocks] == 0]
        if not len(new):
            return
        with self._lock:
            again = np.unique(new[self._was_met[new] & (self._row[new] == 0)])
            for first in range(0, len(again), MADE_AT_ONCE):
                some = again[first : first + MADE_AT_ONCE]
                rows = np.arange(self._filled, self._filled + len(some))
                self._rows[rows] = self._signatures(some)
                self._row[some] = rows  # last: other threads read what is there
                self._filled += len(some)
            self._was_met[new] = True

    def _signatures(self, blocks: np.ndarray) -> UInt8[np.ndarray, "blocks bytes"]:
        data, starts = joined(self._corpus, blocks, self._column)
        bits = _bits(np.frombuffer(data, self._dtype))  # a few reach into the next block: bits too many do no harm
        lengths = np.diff(np.minimum(starts, len(bits)), append=len(bits))
        is_set = np.zeros(len(blocks) * BITS, bool)
        is_set[np.repeat(np.arange(len(blocks), dtype=np.int32) * BITS, lengths) + bits] = True
        return np.packbits(is_set.reshape(len(blocks), BITS), axis=1, bitorder="little")


def _bits(items: np.ndarray) -> UInt16[np.ndarray, " bits"]:
    """The bit of each wordpiece, or of each three bytes; fewer than three bytes have none."""
    mixed = items.astype(np.uint16)
    if items.dtype == np.uint8:
        mixed = mixed[:-2] * np.uint16(40503) ^ mixed[1:-1] * np.uint16(25717) ^ mixed[2:] * np.uint16(10007)
    else:
        mixed = mixed * np.uint16(40503)
    return mixed >> np.uint16(16 - (BITS - 1).bit_length())
