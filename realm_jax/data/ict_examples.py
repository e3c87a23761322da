"""Inverse cloze examples: a sentence and the block that it was taken from (Lee et al. 2019, §4)."""

from collections import Counter
from typing import SupportsIndex

import numpy as np

from realm_jax.batches import IctBatch
from realm_jax.config import ConfigError
from realm_jax.data.assembly import SpecialIds, concatenate
from realm_jax.data.corpus import Corpus


class IctExamples:
    """The examples of a corpus: one for each block of two sentences or more that is neither held out nor deleted.

    Raises:
        ConfigError: there are none.
    """

    def __init__(
        self, corpus: Corpus, special: SpecialIds, heldout_fraction: float, query_len_tokens: int, removal_rate: float
    ):
        self._corpus, self._special = corpus, special
        self._query_len, self._removal_rate = query_len_tokens, removal_rate
        several = np.concatenate(
            [(s.blocks["sentence_limit"] - s.blocks["sentence_start"]) >= 2 for s in corpus.segments]
        )
        heldout, live = corpus.heldout(heldout_fraction), corpus.live
        self.blocks = np.flatnonzero(several & ~heldout & live)
        """int64 [examples]: the ordinals of these blocks."""
        reasons = {"held out": heldout & live, "one sentence": ~several & ~heldout & live, "deleted": ~live}
        self.skipped = Counter({reason: int(blocks.sum()) for reason, blocks in reasons.items()})
        if not len(self.blocks):
            raise ConfigError(f"{corpus.folder}: no block has two sentences: use longer texts, or pass --ict.steps=0")

    def __len__(self) -> int:
        return len(self.blocks)

    def example(self, number: SupportsIndex, rng: np.random.Generator) -> IctBatch:
        """Draws a sentence of a block uniformly; the block loses it with the probability `removal_rate`."""
        corpus, index = self._corpus, int(self.blocks[number])
        sentences = corpus.sentences(index)
        sentence = sentences[rng.integers(len(sentences))]
        start, limit = int(sentence["token_start"]), int(sentence["token_limit"])
        body = corpus.body(index)
        rest = np.concatenate([body[:start], body[limit:]]) if rng.random() < self._removal_rate else body
        query = concatenate([body[start:limit]], self._special, self._query_len)
        block = concatenate([corpus.title(index), rest], self._special, corpus.block_len_tokens)
        return IctBatch(query, block, np.float32(1))
