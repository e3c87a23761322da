"""Softmax attention within each of the sequences that share a row: as fast as each kind of device allows.

Rows are short, so the weights of one row's heads are small: a CPU works on one row at a time, whose weights stay in its
cache and are computed again for the gradient, at three times the rate of all rows at once (`benchmarks/NOTES.md`).
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

MASKED_SCORE = -1e9


def at_least_float32(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """x, of any shape, in float32 where its own type is narrower: softmax and scores are not computed in bfloat16."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def attend(
    query: Float[Array, "rows positions heads width"],
    key: Float[Array, "rows positions heads width"],
    value: Float[Array, "rows positions heads width"],
    sequences: Int[Array, "rows positions"],
    rng: PRNGKeyArray | None,
    rate: float,
) -> Float[Array, "rows positions heads width"]:
    """The mean of the values of its own sequence at each position, weighted by the softmax of query · key / sqrt(width).

    Args:
        sequences: which sequence a position belongs to.
        rng: for the dropout of weights, each with probability `rate`; without it there is none.
    """
    if rng is None and _has_fused(query):
        same = _same(sequences)[:, None]
        return jax.nn.dot_product_attention(query, key, value, mask=same, implementation="cudnn")
    rngs = None if rng is None else jax.random.split(rng, len(query))
    one = functools.partial(_one_row, rate)
    return jax.lax.platform_dependent(
        query,
        key,
        value,
        sequences,
        rngs,
        cpu=lambda *rows: jax.lax.map(lambda row: jax.checkpoint(one)(*row), rows),
        default=jax.vmap(one),
    )


def _has_fused(query: Array) -> bool:
    """Whether cuDNN's fused attention is there: on NVIDIA's GPUs, in 16 bits, for rows of an even length."""
    is_gpu = jax.default_backend() == "gpu"
    return is_gpu and query.dtype.itemsize == 2 and query.shape[1] % 2 == 0


def _same(sequences: Int[Array, "*rows positions"]) -> Bool[Array, "*rows positions positions"]:
    """Which positions may see each other. Padding sees padding alone, and nobody reads what it sees."""
    return sequences[..., :, None] == sequences[..., None, :]


def _one_row(
    rate: float,
    query: Float[Array, "positions heads width"],
    key: Float[Array, "positions heads width"],
    value: Float[Array, "positions heads width"],
    sequences: Int[Array, " positions"],
    rng: PRNGKeyArray | None,
) -> Float[Array, "positions heads width"]:
    scores = at_least_float32(jnp.einsum("qhd,khd->hqk", query, key) * query.shape[-1] ** -0.5)
    weights = jax.nn.softmax(jnp.where(_same(sequences), scores, MASKED_SCORE), axis=-1).astype(value.dtype)
    if rng is not None:
        weights = jnp.where(jax.random.bernoulli(rng, 1 - rate, weights.shape), weights / (1 - rate), 0)
    return jnp.einsum("hqk,khd->qhd", weights, value)
