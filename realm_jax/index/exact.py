"""Exact search on the devices: each holds a share of the blocks and streams it through a running top-k.

A device scores `CHUNK_ROWS` blocks at a time, so that no score row over the whole corpus ever exists: its memory is
its share of the embeddings plus batch * (CHUNK_ROWS + k) scores. The host merges the devices' k best.
"""

import functools
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Bool, Float, Int, UInt16

from realm_jax import parallel
from realm_jax.batches import Array
from realm_jax.index.top_k import top_k

CHUNK_ROWS = 8192
SMALLEST_BATCH = 8
PART_ROWS = 1 << 20


class ExactSearch:
    """Exact maximum inner product search in float32; the embeddings stay in their own type on the devices."""

    def __init__(self, embeddings: Float[np.ndarray, "blocks dim"], live: Bool[np.ndarray, " blocks"] | None = None):
        """Copies the embeddings to the local devices; `live` is False for blocks that must not be returned."""
        if live is None:
            live = np.ones(len(embeddings), bool)
        # As bits: XLA on a CPU turns a whole bfloat16 operand into float32 before a loop that reads it in slices.
        bits = embeddings.view(np.uint16) if embeddings.dtype == jnp.bfloat16 else embeddings
        self._embeddings = parallel.shard_rows(bits)
        self._live = parallel.shard_rows(live)  # the padding rows are not live

    def search(
        self, query_emb: Float[Array, "batch dim"], k: int
    ) -> tuple[Int[np.ndarray, "batch k"], Float[np.ndarray, "batch k"]]:
        """See `Search.search`. Compiles once for each k and each power of two of the batch."""
        query_emb = np.asarray(query_emb, np.float32)
        batch = len(query_emb)
        padded = max(SMALLEST_BATCH, 1 << (batch - 1).bit_length()) if batch else SMALLEST_BATCH
        query_emb = np.pad(query_emb, ((0, padded - batch), (0, 0)))
        devices, local_rows = self._live.shape
        chunk = min(CHUNK_ROWS, local_rows)
        ids, scores = _top_k()(self._embeddings, self._live, query_emb, min(k, local_rows), chunk)
        offsets = (np.arange(devices, dtype=np.int32) * local_rows)[:, None, None]
        ids = np.asarray(ids)
        ids = np.where(ids < 0, -1, ids + offsets)  # [devices, batch, k]
        ids, scores = (np.concatenate(list(part), axis=1)[:batch] for part in (ids, np.asarray(scores)))
        return top_k(ids, scores, k)


def search_in_parts(
    embeddings: Float[np.ndarray, "blocks dim"],
    live: Bool[np.ndarray, " blocks"],
    query_emb: Float[Array, "batch dim"],
    k: int,
) -> tuple[Int[np.ndarray, "batch k"], Float[np.ndarray, "batch k"]]:
    """The same search, once, over embeddings that the devices have no room for: PART_ROWS of them at a time."""
    ids = np.zeros((len(query_emb), 0), np.int32)
    scores = np.zeros((len(query_emb), 0), np.float32)
    for start in range(0, len(embeddings), PART_ROWS):
        part = slice(start, start + PART_ROWS)
        found, found_scores = ExactSearch(embeddings[part], live[part]).search(query_emb, k)
        ids = np.concatenate([ids, np.where(found < 0, -1, found + start)], axis=1)
        ids, scores = top_k(ids, np.concatenate([scores, found_scores], axis=1), k)
    return ids, scores


@functools.cache  # one function, so that the next index version of this size finds it compiled
def _top_k() -> Callable:
    return parallel.on_local_devices(_device_top_k, in_axes=(0, 0, None), static_broadcasted_argnums=(3, 4))


def _device_top_k(
    embeddings: Float[Array, "rows dim"] | UInt16[Array, "rows dim"],
    live: Bool[Array, " rows"],
    query_emb: Float[Array, "batch dim"],
    k: int,
    chunk: int,
) -> tuple[Int[Array, "batch k"], Float[Array, "batch k"]]:
    rows, batch = len(embeddings), len(query_emb)

    def add_chunk(running, first):
        start = jnp.minimum(first, rows - chunk)  # the last chunk overlaps the one before
        ids = start + jnp.arange(chunk, dtype=jnp.int32)
        chunk_emb = lax.dynamic_slice_in_dim(embeddings, start, chunk)
        if chunk_emb.dtype == jnp.uint16:
            chunk_emb = lax.bitcast_convert_type(chunk_emb, jnp.bfloat16)
        chunk_emb = chunk_emb.astype(jnp.float32)
        scores = jnp.einsum("bd,cd->bc", query_emb, chunk_emb, precision=lax.Precision.HIGHEST)
        fresh = lax.dynamic_slice_in_dim(live, start, chunk) & (ids >= first)
        scores = jnp.where(fresh, scores, -jnp.inf)
        # top_k prefers the earlier of two equal scores, and ids ascend from the running best to the chunk's end.
        ids = jnp.concatenate([running[0], jnp.broadcast_to(ids, (batch, chunk))], axis=1)
        top_scores, places = lax.top_k(jnp.concatenate([running[1], scores], axis=1), k)
        return (jnp.take_along_axis(ids, places, axis=1), top_scores), None

    nothing = jnp.full((batch, k), -1, jnp.int32), jnp.full((batch, k), -jnp.inf)
    (ids, scores), _ = lax.scan(add_chunk, nothing, jnp.arange(0, rows, chunk, dtype=jnp.int32))
    return jnp.where(jnp.isneginf(scores), -1, ids), scores
