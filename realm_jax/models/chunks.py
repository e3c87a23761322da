"""Embedding or reading in chunks, one after the other: the memory of one chunk, the gradient of all.

This is GradCache (Gao et al. 2021, arXiv:2101.06983). A softmax over many blocks needs all their embeddings at once,
not all the activations behind them. So the forward pass keeps the results alone; the backward pass computes each chunk
again, with the same dropout, and takes it back from the gradient of its results. The price is a second forward pass.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from realm_jax.batches import Tokens


def in_chunks(
    function: Callable[[Tokens, PRNGKeyArray | None], Float[Array, "*results"]],
    tokens: Tokens,
    rng: PRNGKeyArray | None,
    size: int,
    axis: int = 0,
) -> Float[Array, "*results"]:
    """`function(tokens, rng)` for `size` rows at a time.

    Args:
        function: treats each row by itself; its result has the rows on the same axis.
        tokens: [rows, tokens], or [batch, rows, tokens] where `axis` is 1.
        rng: for dropout, which differs between chunks; without it there is none.
        size: 0, or at least as many rows as there are, makes it one plain call.
    """
    rows = tokens.ids.shape[axis]
    if not size or size >= rows:
        return function(tokens, rng)
    chunks = -(-rows // size)

    def split(x):
        # What the last chunk lacks are copies of the last row: of padding alone, there would be no mean.
        missing = [(0, chunks * size - rows if i == axis else 0) for i in range(x.ndim)]
        x = jnp.moveaxis(jnp.pad(x, missing, mode="edge"), axis, 0)
        return jnp.moveaxis(x.reshape(chunks, size, *x.shape[1:]), 1, axis + 1)

    def one(chunk):
        number, chunk_tokens = chunk
        return function(chunk_tokens, None if rng is None else jax.random.fold_in(rng, number))

    again = jax.checkpoint(one, prevent_cse=False)  # a loop's body shares nothing with its backward pass
    results = jax.lax.map(again, (jnp.arange(chunks), jax.tree.map(split, tokens)))
    results = jnp.moveaxis(results, axis + 1, 1)
    return jnp.moveaxis(results.reshape(chunks * size, *results.shape[2:])[:rows], 0, axis)
