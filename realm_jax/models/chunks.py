"""Sequences in parts, one after the other: the memory of one part, the gradient of all.

This is GradCache (Gao et al. 2021, arXiv:2101.06983). A softmax over many blocks needs all their embeddings at once,
not all the activations behind them. So the forward pass keeps the results alone; the backward pass computes each part
again, with the same dropout, and takes it back from the gradient of its results. The price is a second forward pass.
How many parts there are is decided where batches are packed (`training.room`).
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from realm_jax.batches import Packed


def in_parts(
    function: Callable[..., Float[Array, "*results"]],
    packed: Packed,
    rng: PRNGKeyArray | None,
    *others: Array,
) -> Float[Array, "*results"]:
    """`function(part, rng, *others)` for one part after the other; the results of all sequences in their order.

    Args:
        function: gets one part without its leading axis, and treats each sequence by itself; its result has the
            sequences on the first axis.
        rng: for dropout, which differs between parts; without it there is none.
        others: more inputs of the sequences of all parts, [sequences, …] each.
    """
    parts = len(packed.ids)
    others = tuple(x.reshape(parts, -1, *x.shape[1:]) for x in others)
    if parts == 1:
        first, *rest = jax.tree.map(lambda x: x[0], (packed, *others))
        return function(first, rng, *rest)

    def one(numbered):
        number, part, *rest = numbered
        return function(part, None if rng is None else jax.random.fold_in(rng, number), *rest)

    again = jax.checkpoint(one, prevent_cse=False)  # a loop's body shares nothing with its backward pass
    results = jax.lax.map(again, (jnp.arange(parts), packed, *others))
    return results.reshape(-1, *results.shape[2:])
