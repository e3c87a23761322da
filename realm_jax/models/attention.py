"""Softmax attention within each of the sequences that share a row, in the form that each kind of device is good at.

Attention's work grows with the square of what it sees: of a row of 384 wordpieces with three sequences, two thirds of
the weights are zero. So a CPU takes one sequence after the other, its length rounded up to a multiple of `STEP`.
Accelerators want one large product: all rows at once, or cuDNN's fused attention, with a mask.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from realm_jax.batches import Packed

MASKED_SCORE = -1e9
STEP = 64
"""Lengths are rounded up to a multiple of it on a CPU: 32 gains nothing, 128 loses a seventh (benchmarks/NOTES.md)."""


def at_least_float32(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """x, of any shape, in float32 where its own type is narrower: softmax and scores are not computed in bfloat16."""
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def attend(
    query: Float[Array, "rows positions heads width"],
    key: Float[Array, "rows positions heads width"],
    value: Float[Array, "rows positions heads width"],
    part: Packed,
    rng: PRNGKeyArray | None,
    rate: float,
) -> Float[Array, "rows positions heads width"]:
    """At each position, the mean of its own sequence's values, weighted by the softmax of query · key / sqrt(width).

    What comes out at padding has no meaning.

    Args:
        part: where the sequences are.
        rng: for the dropout of weights, each with probability `rate`; without it there is none.
    """
    query = query * query.shape[-1] ** -0.5
    if rng is None and _has_fused(query):
        same = _same(part.sequences)[:, None]
        return jax.nn.dot_product_attention(query, key, value, mask=same, scale=1.0, implementation="cudnn")
    return jax.lax.platform_dependent(
        query,
        key,
        value,
        part,
        rng,
        cpu=functools.partial(by_sequence, rate=rate),
        default=functools.partial(by_row, rate=rate),
    )


def _has_fused(query: Array) -> bool:
    """Whether cuDNN's fused attention is there: on NVIDIA's GPUs, in 16 bits, for rows of an even length."""
    is_gpu = jax.default_backend() == "gpu"
    return is_gpu and query.dtype.itemsize == 2 and query.shape[1] % 2 == 0


def _same(sequences: Int[Array, "rows positions"]) -> Bool[Array, "rows positions positions"]:
    """Which positions may see each other. Padding sees padding alone, and nobody reads what it sees."""
    return sequences[:, :, None] == sequences[:, None, :]


def by_row(
    query: Float[Array, "rows positions heads width"],
    key: Float[Array, "rows positions heads width"],
    value: Float[Array, "rows positions heads width"],
    part: Packed,
    rng: PRNGKeyArray | None,
    rate: float,
) -> Float[Array, "rows positions heads width"]:
    """`attend` for all rows at once; queries are scaled."""
    scores = at_least_float32(jnp.einsum("rqhd,rkhd->rhqk", query, key))
    weights = jax.nn.softmax(jnp.where(_same(part.sequences)[:, None], scores, MASKED_SCORE), axis=-1)
    weights = _dropped(rng, rate, weights).astype(value.dtype)
    return jnp.einsum("rhqk,rkhd->rqhd", weights, value)


def _dropped(rng: PRNGKeyArray | None, rate: float, weights: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    if rng is None:
        return weights
    return jnp.where(jax.random.bernoulli(rng, 1 - rate, weights.shape), weights / (1 - rate), 0)


def by_sequence(
    query: Float[Array, "rows positions heads width"],
    key: Float[Array, "rows positions heads width"],
    value: Float[Array, "rows positions heads width"],
    part: Packed,
    rng: PRNGKeyArray | None,
    rate: float,
) -> Float[Array, "rows positions heads width"]:
    """`attend` for one sequence after the other; queries are scaled."""
    flat = (x.reshape(-1, *x.shape[2:]) for x in (query, key, value))
    return _by_sequence(rate, part.longest, *flat, part, rng).reshape(query.shape)


def _each_sequence(part: Packed, longest: int, step: Callable[[Any, "_Place"], Any], carry: Any) -> Any:
    """`carry = step(carry, place)` for each sequence, the shortest first: one loop for each rounded length."""
    starts, lengths = jnp.asarray(part.starts), jnp.asarray(part.lengths)
    order = jnp.argsort(lengths)
    sizes = [min(size, longest) for size in range(STEP, longest + STEP, STEP)]
    limits = jnp.searchsorted(lengths[order], jnp.array(sizes), side="right")
    first: Any = 0
    for size, limit in zip(sizes, limits, strict=True):

        def one(i, carry, size=size):
            number = order[i]
            return step(carry, _Place(number, starts[number], lengths[number], size))

        carry = jax.lax.fori_loop(first, limit, one, carry)
        first = limit
    return carry


class _Place:
    """Where a sequence stands in arrays of the shape [tokens, heads, width]; its length is rounded up to `size`."""

    def __init__(self, number: Int[Array, ""], start: Int[Array, ""], length: Int[Array, ""], size: int):
        self.number, self._start, self._size = number, start, size
        self._is_real = jnp.arange(size) < length

    def of(self, x: Float[Array, "tokens heads width"]) -> Float[Array, "heads size width"]:
        """Its rows of an array, zero where it has ended."""
        rows = jax.lax.dynamic_slice_in_dim(x, self._start, self._size)
        return jnp.where(self._is_real[:, None, None], rows, 0).swapaxes(0, 1)

    def put(
        self, x: Float[Array, "tokens heads width"], rows: Float[Array, "heads size width"]
    ) -> Float[Array, "tokens heads width"]:
        """The array with its rows replaced."""
        old = jax.lax.dynamic_slice_in_dim(x, self._start, self._size)
        new = jnp.where(self._is_real[:, None, None], rows.swapaxes(0, 1).astype(x.dtype), old)
        return jax.lax.dynamic_update_slice_in_dim(x, new, self._start, 0)

    def scores(
        self, query: Float[Array, "heads size width"], key: Float[Array, "heads size width"]
    ) -> Float[Array, "heads size size"]:
        """Inner products, of which padding has none."""
        return jnp.where(self._is_real, at_least_float32(query @ key.swapaxes(1, 2)), MASKED_SCORE)


def _padded(part_length: int, *arrays: Array) -> list[Array]:
    """The arrays with rows for the last sequence's rounded length to reach into."""
    return [jnp.pad(x, ((0, part_length), (0, 0), (0, 0))) for x in arrays]


def _of_sequence(rng: PRNGKeyArray | None, place: _Place) -> PRNGKeyArray | None:
    return None if rng is None else jax.random.fold_in(rng, place.number)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _by_sequence(
    rate: float,
    longest: int,
    query: Float[Array, "tokens heads width"],
    key: Float[Array, "tokens heads width"],
    value: Float[Array, "tokens heads width"],
    part: Packed,
    rng: PRNGKeyArray | None,
) -> Float[Array, "tokens heads width"]:
    return _forward(rate, longest, query, key, value, part, rng)[0]


def _forward(rate, longest, query, key, value, part, rng):
    """The result, and what the gradient needs: weights are not kept, but the logarithm of what they were divided by."""
    tokens, *padded = len(query), *_padded(longest, query, key, value)

    def step(carry, place):
        context, log_sum = carry
        q, k, v = (place.of(x) for x in padded)
        scores = place.scores(q, k)
        greatest = scores.max(axis=-1, keepdims=True)
        weights = jnp.exp(scores - greatest)
        total = weights.sum(axis=-1, keepdims=True)
        # The result is divided and not the weights, which are many more and would be gone through once more.
        mean = at_least_float32(_dropped(_of_sequence(rng, place), rate, weights).astype(v.dtype) @ v) / total
        return place.put(context, mean), place.put(log_sum, greatest + jnp.log(total))

    log_sum = jnp.zeros((*padded[0].shape[:2], 1), jnp.promote_types(query.dtype, jnp.float32))
    context, log_sum = _each_sequence(part, longest, step, (jnp.zeros_like(padded[2]), log_sum))
    return context[:tokens], (*padded, context, log_sum, part, rng)


def _backward(rate, longest, kept, gradient):
    """With weights w of values v and a result r, dw = g · v, and the gradient of the scores is w (dw - g · r)."""
    *padded, context, log_sum, part, rng = kept
    (g_padded,) = _padded(longest, gradient)
    along = at_least_float32(g_padded * context).sum(-1, keepdims=True)

    def step(carry, place):
        q, k, v, g, total, mean = (place.of(x) for x in (*padded, g_padded, log_sum, along))
        weights = jnp.exp(place.scores(q, k) - total)
        own = _of_sequence(rng, place)
        of_weights = _dropped(own, rate, at_least_float32(g @ v.swapaxes(1, 2)))
        of_scores = (weights * (of_weights - mean)).astype(q.dtype)
        dropped = _dropped(own, rate, weights).astype(v.dtype)
        new = of_scores @ k, _transposed_product(of_scores, q), _transposed_product(dropped, g)
        return tuple(place.put(x, rows) for x, rows in zip(carry, new, strict=True))

    gradients = _each_sequence(part, longest, step, tuple(jnp.zeros_like(x) for x in padded))
    return *(x[: len(gradient)] for x in gradients), None, None


def _transposed_product(
    weights: Float[Array, "heads queries keys"], x: Float[Array, "heads queries width"]
) -> Float[Array, "heads keys width"]:
    """The transposed weights times x, while only x and the product are transposed, which are narrow."""
    return (x.swapaxes(1, 2) @ weights).swapaxes(1, 2)


_by_sequence.defvjp(_forward, _backward)
