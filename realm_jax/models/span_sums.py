"""Sums over the states of all short spans, whose states are never kept.

Of a span's state s, a vector, the reader's score needs three numbers: the sums of its elements, of their squares, and
of their products with weights. A batch's states have tens of millions of elements; on a CPU, LayerNorm and `Dense` over
them took half of fine-tuning's step.
"""

import functools
import operator
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Sums = tuple[
    Float[Array, "rows widths positions"], Float[Array, "rows widths positions"], Float[Array, "rows widths positions"]
]


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def span_sums(
    first: Float[Array, "rows positions hidden"],
    last: Float[Array, "rows positions hidden"],
    weights: Float[Array, " hidden"],
    widths: int,
) -> Sums:
    """The sums of s, of s² and of weights · s, for the spans of 1, 2, … `widths` positions that begin at each position.

    The state of the span from position i to j is s = ReLU(first[i] + last[j]); behind the end of a row, `last` is 0.
    All in float32.
    """
    zeros, found = (jnp.float32(0),) * 3, []
    for last_of_width in _later(last, widths):
        state = jax.nn.relu(first + last_of_width)
        terms = (state, jnp.square(state), weights * state)
        # One reduction of all three, which computes the state once.
        found.append(jax.lax.reduce(terms, zeros, lambda a, b: tuple(map(operator.add, a, b)), (2,)))
    sums, squares, weighted = (jnp.stack(of_widths, axis=1) for of_widths in zip(*found, strict=True))
    return sums, squares, weighted


def _forward(first, last, weights, widths):
    return span_sums(first, last, weights, widths), (first, last, weights)


def _backward(widths, kept, gradients):
    first, last, weights = kept

    def of_state(state, plain, squared, weighted):
        return jnp.where(state > 0, plain + 2 * squared * state + weighted * weights, 0.0)

    gradients, length = [gradient[..., None] for gradient in gradients], first.shape[1]
    of_first = of_last = products = 0.0
    for wider, last_of_width in enumerate(_later(last, widths)):
        state, own = jax.nn.relu(first + last_of_width), [gradient[:, wider] for gradient in gradients]
        of_first += of_state(state, *own)
        products += own[2] * state
    for wider, first_of_width in enumerate(_earlier(first, widths)):
        own = [jnp.pad(gradient[:, wider], ((0, 0), (wider, 0), (0, 0)))[:, :length] for gradient in gradients]
        of_last += of_state(jax.nn.relu(first_of_width + last), *own)
    # As a product: a sum over the rows of a matrix is slow on a CPU.
    flat = products.reshape(-1, len(weights))
    return of_first, of_last, jnp.ones(len(flat)) @ flat


span_sums.defvjp(_forward, _backward)


def _later(x: Float[Array, "rows positions n"], widths: int) -> Iterator[Float[Array, "rows positions n"]]:
    """What stands 0, 1, … positions later; 0 behind the end of a row."""
    length, padded = x.shape[1], jnp.pad(x, ((0, 0), (0, widths - 1), (0, 0)))
    return (padded[:, by : by + length] for by in range(widths))


def _earlier(x: Float[Array, "rows positions n"], widths: int) -> Iterator[Float[Array, "rows positions n"]]:
    """What stands 0, 1, … positions earlier; 0 before the start of a row."""
    length, padded = x.shape[1], jnp.pad(x, ((0, 0), (widths - 1, 0), (0, 0)))
    return (padded[:, by : by + length] for by in reversed(range(widths)))
