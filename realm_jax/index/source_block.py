"""The block that a query was cut from, which retrieval must not return (§3.4: prohibiting trivial retrieval)."""

import numpy as np
from jaxtyping import Int, Int32, UInt64

from realm_jax.data.corpus import Corpus


def drop_source(
    found: Int[np.ndarray, "batch k"], source_hash: UInt64[np.ndarray, " batch"], knowledge: Corpus
) -> Int32[np.ndarray, "batch k"]:
    """Takes each query's own block out of what was found for it.

    Args:
        found: block ordinals by rank, -1 where none.
        source_hash: content hash of each query's block, so that X and Z may be different corpora.

    Returns:
        the others in their order, then -1.
    """
    own = (knowledge.block_hashes(found) == source_hash[:, None]) | (found < 0)
    order = np.argsort(own, axis=1, kind="stable")
    return np.where(np.take_along_axis(own, order, 1), -1, np.take_along_axis(found, order, 1)).astype(np.int32)
