"""Inverse cloze task: tell a sentence's own block from the other blocks of the batch (Lee et al. 2019, §4)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def in_batch_softmax(
    query_emb: Float[Array, "batch dim"],
    all_block_emb: Float[Array, "all_batch dim"],
    first_label: Array,
    weight: Float[Array, " batch"],
    all_weight: Float[Array, " all_batch"],
) -> tuple[Array, Array, Array]:
    """Cross-entropy of each sentence's own block among the blocks of all devices.

    Args:
        query_emb: this device's sentences.
        all_block_emb: the blocks of all devices, in device order.
        first_label: row of this device's first block in `all_block_emb`.
        weight: 0 for padding rows of the sentences.
        all_weight: the same for all blocks; a padding row is no negative.

    Returns:
        (sum of losses, count of sentences, number ranked first).
    """
    scores = query_emb @ all_block_emb.T
    scores = jnp.where(all_weight[None, :] > 0, scores, -jnp.inf)
    labels = first_label + jnp.arange(query_emb.shape[0])
    # A padding row has no finite score of its own: give it one, its weight is zero.
    logp = jax.nn.log_softmax(jnp.where(weight[:, None] > 0, scores, 0.0), axis=-1)
    own = jnp.take_along_axis(logp, labels[:, None], axis=-1)[:, 0]
    first = (scores.argmax(-1) == labels) * weight
    return -(own * weight).sum(), weight.sum(), first.sum()
