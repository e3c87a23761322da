"""A block that holds the masked span, from further down the ranking: what a reader can learn to read from.

Early in training few of the best blocks have the answer, so that the reader learns little from blocks and the retriever
little from the reader. Fine-tuning meets the same (ORQA's early updates: the best 5,000 blocks, Lee et al. 2019, §6.2).
"""

import numpy as np
from jaxtyping import Bool, Int, Int32

from realm_jax.batches import MaskedQueries
from realm_jax.data.corpus import Corpus


def with_answer(
    found: Int32[np.ndarray, "batch found"], count: int, queries: MaskedQueries, knowledge: Corpus
) -> Int32[np.ndarray, "batch count"]:
    """Takes the first `count` of each row; where none of them has the masked span, the last one gives way.

    Args:
        found: block ordinals by rank, -1 where none.

    Returns:
        block ordinals. The last is the first further down whose body has the span, if one has it and no better one.
    """
    holds = has_span(found, queries, knowledge)
    first = np.where(holds.any(1), holds.argmax(1), 0)
    candidates = found[:, :count].copy()
    candidates[:, -1] = np.where(first >= count, found[np.arange(len(found)), first], candidates[:, -1])
    return candidates


def has_span(
    blocks: Int[np.ndarray, "batch found"], queries: MaskedQueries, knowledge: Corpus
) -> Bool[np.ndarray, "batch found"]:
    """Whether a block's body has the wordpieces that its query hides, in a row; block -1 has nothing."""
    tokens = knowledge.embedder_tokens(blocks, knowledge.block_len_tokens)
    body = np.where(tokens.types == 1, tokens.ids, -1)
    starts = np.ones(body.shape, bool)
    for place in range(int(queries.mask_weights.sum(1).max(initial=0))):
        wanted, is_used = queries.mask_targets[:, place, None, None], queries.mask_weights[:, place, None, None] > 0
        last = body.shape[-1] - place
        starts[..., :last] &= (body[..., place:] == wanted) | ~is_used
        starts[..., last:] &= ~is_used
    return starts.any(-1) & (blocks >= 0)
