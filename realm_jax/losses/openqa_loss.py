"""Losses of open-domain question answering (Lee et al. 2019, §4; Guu et al. 2020, §3.2).

Both are marginal: of a softmax over all choices, the probability of those that are right. The choices are the retrieved
blocks (right: it holds an answer), and all spans of the blocks that were read (right: it is an answer).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Bool, Float, Int

from realm_jax.batches import Array

_NEVER = -1e9


def marginal_loss(
    scores: Float[Array, "batch choices"], correct: Bool[Array, "batch choices"]
) -> Float[Array, " batch"]:
    """-log of the softmax probability of all correct choices; 0 for a question without one."""
    right = jax.nn.logsumexp(jnp.where(correct, scores, _NEVER), axis=-1)
    return jnp.where(correct.any(-1), jax.nn.logsumexp(scores, axis=-1) - right, 0.0)


def correct_spans(
    starts: Int[Array, " spans"],
    ends: Int[Array, " spans"],
    answer_starts: Int[Array, "*batch answers"],
    answer_ends: Int[Array, "*batch answers"],
) -> Bool[Array, "*batch spans"]:
    """Whether each span is one of the answers; an answer at -1 is padding. NumPy arrays give a NumPy array."""
    same = (answer_starts[..., None] == starts) & (answer_ends[..., None] == ends)
    return same.any(-2)


def reader_loss(
    span_scores: Float[Array, "batch blocks spans"],
    retrieval_scores: Float[Array, "batch blocks"],
    correct: Bool[Array, "batch blocks spans"],
) -> Float[Array, " batch"]:
    """Marginal loss over the spans of all blocks; a span's score has its block's retrieval score added."""
    scores = span_scores + retrieval_scores[..., None]
    batch = scores.shape[0]
    return marginal_loss(scores.reshape(batch, -1), correct.reshape(batch, -1))
