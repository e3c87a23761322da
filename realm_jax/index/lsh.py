"""Sign random projections for maximum inner product search, for study: how hashing first made MIPS sublinear.

Inner product has no locality-sensitive hash; cosine has: two vectors at angle t fall on the same side of a random
hyperplane with probability 1 - t/pi. One more coordinate reduces the one to the other (Shrivastava & Li 2014, in the
asymmetric form of Neyshabur & Srebro 2015):

    block z -> [z, sqrt(M^2 - |z|^2)],  query x -> [x, 0],  M = max |z|

All blocks then have length M, so that the order by cosine is the order by inner product. A table hashes `bits` signs;
a query's candidates are the union of its buckets in all tables, and they are scored exactly.
"""

import numpy as np
from jaxtyping import Bool, Float, Int

from realm_jax.batches import Array
from realm_jax.index.top_k import top_k

CHUNK_ROWS = 65536


class LshSearch:
    """Tables of blocks sorted by their hash; 4 bytes for each block and table, besides the embeddings."""

    def __init__(
        self,
        embeddings: Float[np.ndarray, "blocks dim"],
        live: Bool[np.ndarray, " blocks"] | None = None,
        *,
        tables: int,
        bits: int,
        seed: int = 0,
    ):
        """Hashes every live block. `bits=0` makes one bucket, so that all blocks are scored."""
        self._embeddings = embeddings
        ids = np.arange(len(embeddings), dtype=np.int32) if live is None else np.flatnonzero(live).astype(np.int32)
        rng = np.random.default_rng(seed)
        self._planes = rng.standard_normal((tables, bits, embeddings.shape[1] + 1), np.float32)
        hashes = self._hash_blocks()[:, ids]  # [tables, live blocks]
        order = np.argsort(hashes, axis=1, kind="stable")
        self._members = ids[order]
        limits = np.arange((1 << bits) + 1)
        self._offsets = np.stack([np.searchsorted(h[o], limits) for h, o in zip(hashes, order, strict=True)])
        self.share_scored = np.zeros(0, np.float32)
        """float32 [batch]: share of all blocks that the latest search scored for each query."""

    def search(
        self, query_emb: Float[Array, "batch dim"], k: int
    ) -> tuple[Int[np.ndarray, "batch k"], Float[np.ndarray, "batch k"]]:
        """See `Search.search`. A query whose buckets hold fewer than k blocks gets fewer."""
        query_emb = np.asarray(query_emb, np.float32)
        rows, shares = [], []
        for one_emb, one_hashes in zip(query_emb, self._hash(_append(query_emb, 0)).T, strict=True):
            ids = self._candidates(one_hashes)
            scores = np.asarray(self._embeddings[ids], np.float32) @ one_emb
            rows.append(top_k(ids[None], scores[None], k))
            shares.append(len(ids) / max(len(self._embeddings), 1))
        self.share_scored = np.array(shares, np.float32)
        ids = np.concatenate([np.zeros((0, k), np.int32), *(row[0] for row in rows)])
        return ids, np.concatenate([np.zeros((0, k), np.float32), *(row[1] for row in rows)])

    def _candidates(self, hashes: Int[np.ndarray, " tables"]) -> Int[np.ndarray, " candidates"]:
        buckets = [
            members[offsets[h] : offsets[h + 1]]
            for members, offsets, h in zip(self._members, self._offsets, hashes, strict=True)
        ]
        return np.unique(np.concatenate(buckets))

    def _hash_blocks(self) -> Int[np.ndarray, "tables blocks"]:
        longest = max((float(np.max(_squares(chunk), initial=0)) for chunk in self._chunks()), default=0.0)
        hashes = [np.zeros((len(self._planes), 0), np.int32)]
        for chunk in self._chunks():
            rest = np.sqrt(np.maximum(longest - _squares(chunk), 0))
            hashes.append(self._hash(_append(chunk, rest)))
        return np.concatenate(hashes, axis=1)

    def _hash(self, vectors: Float[np.ndarray, "batch dim_and_1"]) -> Int[np.ndarray, "tables batch"]:
        hashes = np.zeros((len(self._planes), len(vectors)), np.int32)
        for bit in range(self._planes.shape[1]):
            hashes += (self._planes[:, bit] @ vectors.T > 0).astype(np.int32) << bit
        return hashes

    def _chunks(self):
        for start in range(0, len(self._embeddings), CHUNK_ROWS):
            yield np.asarray(self._embeddings[start : start + CHUNK_ROWS], np.float32)


def _squares(vectors: Float[np.ndarray, "batch dim"]) -> Float[np.ndarray, " batch"]:
    return np.einsum("bd,bd->b", vectors, vectors)


def _append(vectors: Float[np.ndarray, "batch dim"], last) -> Float[np.ndarray, "batch dim_and_1"]:
    column = np.broadcast_to(np.asarray(last, np.float32), len(vectors))
    return np.concatenate([vectors, column[:, None]], axis=1)
