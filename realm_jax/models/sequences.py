"""Padded sequences as packed ones, and what is read at the places of packed ones."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from realm_jax.batches import Packed, Tokens


def alone(tokens: Tokens) -> Packed:
    """Padded sequences [..., tokens] as one part [rows, positions], each alone in a row."""
    length = tokens.ids.shape[-1]
    ids, mask, types = (jnp.asarray(x).reshape(-1, length) for x in (tokens.ids, tokens.mask, tokens.types))
    number = jnp.arange(1, len(ids) + 1, dtype=jnp.int32)[:, None]
    return Packed(
        ids=ids,
        types=types,
        sequences=mask * number,
        places=jnp.broadcast_to(jnp.arange(length, dtype=jnp.int32), ids.shape),
        starts=(number[:, 0] - 1) * length,
        lengths=mask.sum(-1, dtype=jnp.int32),
        longest=length,
    )


def packed(tokens: Tokens | Packed) -> Packed:
    """Sequences as parts of rows; padded ones are one part."""
    if isinstance(tokens, Packed):
        return jax.tree.map(jnp.asarray, tokens)
    return jax.tree.map(lambda x: x[None], alone(tokens))


def at_places(
    hidden: Float[Array, "rows positions hidden"], starts: Int[Array, " sequences"], places: Int[Array, "sequences n"]
) -> Float[Array, "sequences n hidden"]:
    """The hidden states at some places of each sequence."""
    return hidden.reshape(-1, hidden.shape[-1])[starts[:, None] + places]


def mean_of_each(hidden: Float[Array, "rows positions hidden"], part: Packed) -> Float[Array, "sequences hidden"]:
    """The mean of the hidden states of each sequence."""
    places, lengths = jnp.arange(part.longest), jnp.asarray(part.lengths)
    is_own = places < lengths[:, None]
    flat = hidden.reshape(-1, hidden.shape[-1])
    # Nothing is added up at the places of others, whose gradient would be a sum of many.
    at = jnp.where(is_own, part.starts[:, None] + places, len(flat))
    own = flat.at[at].get(mode="fill", fill_value=0.0)
    return own.sum(1) / lengths[:, None].astype(hidden.dtype)


def any_sequence() -> Packed:
    """The shapes of a part with one sequence, for parameters to be initialised with: nothing is computed of it."""
    ids, mask = jax.ShapeDtypeStruct((1, 4), jnp.int32), jax.ShapeDtypeStruct((1, 4), bool)
    return jax.eval_shape(alone, Tokens(ids, mask, ids))
