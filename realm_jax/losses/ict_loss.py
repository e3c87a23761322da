"""Inverse cloze task: tell a sentence's own block from the other blocks of the batch (Lee et al. 2019, §4)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def in_batch_softmax(
    query_emb: Float[Array, "batch dim"],
    all_block_emb: Float[Array, "all_batch dim"],
    first_label: Int[Array, ""],
    weight: Float[Array, " batch"],
    all_weight: Float[Array, " all_batch"],
    null_emb: Float[Array, " dim"] | None = None,
) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""]]:
    """Cross-entropy of each sentence's own block among the blocks of all devices (and the null block, if given).

    Args:
        query_emb: this device's sentences.
        all_block_emb: the blocks of all devices, in device order.
        first_label: row of this device's first block in `all_block_emb`.
        weight: 0 for padding rows of the sentences.
        all_weight: the same for all blocks; a padding row is no negative.
        null_emb: the null block as one more negative.

    Returns:
        (sum of losses, count of sentences, number ranked first).
    """
    scores = _scores(query_emb, all_block_emb, all_weight, null_emb)
    labels = first_label + jnp.arange(query_emb.shape[0])
    # A padding row has no finite score of its own: give it one, its weight is zero.
    logp = jax.nn.log_softmax(jnp.where(weight[:, None] > 0, scores, 0.0), axis=-1)
    own = jnp.take_along_axis(logp, labels[:, None], axis=-1)[:, 0]
    first = (scores.argmax(-1) == labels) * weight
    return -(own * weight).sum(), weight.sum(), first.sum()


def null_softmax(
    query_emb: Float[Array, "batch dim"],
    all_block_emb: Float[Array, "all_batch dim"],
    first_label: Int[Array, ""],
    weight: Float[Array, " batch"],
    all_weight: Float[Array, " all_batch"],
    null_emb: Float[Array, " dim"],
) -> Float[Array, ""]:
    """Cross-entropy of the null block when each sentence's own block is taken away; the sum over sentences.

    Not in the papers. Plain ICT never embeds the null block, which then loses to every retrieved block by so much that
    REALM's softmax gives it no gradient. Here it learns to score below the own block and above unrelated ones.
    """
    own = first_label + jnp.arange(query_emb.shape[0])
    scores = _scores(query_emb, all_block_emb, all_weight, null_emb)
    others = jnp.where(jnp.arange(scores.shape[1])[None, :] == own[:, None], -jnp.inf, scores)
    return -(jax.nn.log_softmax(others, axis=-1)[:, -1] * weight).sum()


def _scores(query_emb: Array, all_block_emb: Array, all_weight: Array, null_emb: Array | None) -> Array:
    """Inner products with every block, -inf for padding; the null block comes last if given."""
    scores = jnp.where(all_weight[None, :] > 0, query_emb @ all_block_emb.T, -jnp.inf)
    if null_emb is None:
        return scores
    return jnp.concatenate([scores, (query_emb @ null_emb)[:, None]], axis=1)
