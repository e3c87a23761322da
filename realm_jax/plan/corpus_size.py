"""How large a corpus is, as far as the plan of a run depends on it: read from a built one, or assumed for a number.

A built corpus says everything in its manifest but the lengths of its blocks; these are read from its columns, if they
are on a disk. Where they are not known, all blocks are as long as allowed: embedding costs no more than is said.
"""

from dataclasses import dataclass

import numpy as np
from etils import epath
from jaxtyping import Int

from realm_jax.buckets import is_remote
from realm_jax.data.length_batches import length_batches
from realm_jax.data.manifest import read_manifest
from realm_jax.data.segment import Segment
from realm_jax.plan.work import Lengths

MEASURED_LEN = 288
BLOCK_BYTES, BLOCK_SPANS = 2585, 16
"""On disk, and salient spans, of a block that was cut at `MEASURED_LEN` (benchmarks/corpus_memory.py, long blocks)."""
PADDED_TO = 16
"""`index.embed_blocks.LENGTH_STEP`: lengths are rounded up to a multiple."""


@dataclass(frozen=True)
class CorpusSize:
    """What counts of a corpus."""

    blocks: int
    spans: int
    """Salient spans."""
    disk_bytes: int
    lengths: Int[np.ndarray, " blocks"] | None
    """Wordpieces of each block, title and specials included; None where they are not known."""
    sentence: float = 0.0
    """Mean wordpieces of a sentence, with [CLS] and [SEP]; 0 where it is not known."""

    @property
    def means(self) -> Lengths | None:
        """Mean lengths, where they are known."""
        return None if self.lengths is None else Lengths(self.sentence, float(self.lengths.mean()))

    def padded(self, batch_tokens: int, most: int) -> list[tuple[int, int]]:
        """(rows, length) of each batch in which all blocks are embedded.

        Args:
            batch_tokens, most: as `data.length_batches` takes them.
        """
        if self.lengths is None:
            return [(self.blocks, most)]
        plan = {"batch_tokens": batch_tokens, "step": PADDED_TO, "most": most, "devices": 1}
        return [(rows, length) for _, rows, length in length_batches(self.lengths, **plan)]


def of_folder(folder: epath.PathLike) -> CorpusSize:
    """Reads the size of a built corpus. Raises ConfigError if there is none."""
    folder = epath.Path(folder)
    entries = read_manifest(folder)["segments"]
    lengths, sentence = None, 0.0
    if entries and not is_remote(folder):  # a bucket's columns would have to be copied whole
        segments = [Segment.open(folder / entry["name"], entry, 0) for entry in entries]
        lengths = np.concatenate([segment.lengths for segment in segments])
        wordpieces = np.concatenate([segment.sentence_lengths for segment in segments])
        sentence = float(wordpieces.mean()) + 2
    return CorpusSize(
        blocks=sum(entry["num_blocks"] for entry in entries),
        spans=sum(entry["num_spans"] for entry in entries),
        disk_bytes=sum(sum(entry["bytes"].values()) for entry in entries),
        lengths=lengths,
        sentence=sentence,
    )


def assumed(blocks: int, block_len_tokens: int) -> CorpusSize:
    """A corpus of so many blocks, each of the greatest length; bytes and spans grow with it as measured."""
    share = blocks * block_len_tokens / MEASURED_LEN
    return CorpusSize(blocks, round(share * BLOCK_SPANS), round(share * BLOCK_BYTES), None)
