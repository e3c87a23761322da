"""`realm builder` with block embeddings that are drawn, not computed: a million blocks take a minute on one core.

The only change: in the place of the block tower stands `DrawnEmbedder`. Reading blocks, ranges, claims, files, ScaNN,
the probe (whose queries the model embeds) and publishing are the command's own.
"""

import zlib

import jax
import numpy as np

from realm_jax.batches import Tokens
from realm_jax.commands import builder, cli
from realm_jax.config import Config
from realm_jax.index import shared_embedding

FIRST, TAKEN = 2, 4  # wordpieces of a block that its embedding depends on, behind [CLS] and the title
STEM = 0.5


class DrawnEmbedder:
    """Has the interface of `TowerEmbedder`: embeddings are a function of weights and wordpieces, as they must be."""

    def __init__(self, config: Config, params: dict, side: str):
        del side
        seed = zlib.crc32(np.ascontiguousarray(jax.tree.leaves(params)[0]))
        shape = (config.model.vocab_size, config.model.projection_dim)
        self._table = STEM * np.random.default_rng(seed).standard_normal(shape, np.float32)

    def __call__(self, tokens: Tokens) -> np.ndarray:
        """float32 [batch, dim], about as long as a LayerNorm leaves them."""
        return self._table[tokens.ids[:, FIRST : FIRST + TAKEN]].sum(axis=1)


if __name__ == "__main__":
    shared_embedding.TowerEmbedder = DrawnEmbedder
    cli.run(builder.main)
