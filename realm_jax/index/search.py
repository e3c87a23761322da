"""One protocol for maximum inner product search, and the choice between its three implementations.

Ids are rows of the embedding matrix. All searches sort by score, descending, and ties by the lower id; all of them
return the same ids when they score every block.
"""

from typing import Protocol, runtime_checkable

import numpy as np
from etils import epath
from jaxtyping import Bool, Float, Int

from realm_jax.batches import Array
from realm_jax.config import ConfigError, IndexConfig
from realm_jax.index import scann
from realm_jax.index.exact import ExactSearch, search_in_parts
from realm_jax.index.lsh import LshSearch

RECALL_K = 5
RECALL_QUERIES = 512


@runtime_checkable
class Search(Protocol):
    """A search over one matrix of block embeddings."""

    def search(
        self, query_emb: Float[Array, "batch dim"], k: int
    ) -> tuple[Int[np.ndarray, "batch k"], Float[np.ndarray, "batch k"]]:
        """The k blocks of largest inner product with each query.

        Returns:
            int32 ids and float32 scores; -1 and -inf where fewer than k blocks were found.
        """
        ...


def open_search(
    kind: str,
    embeddings: Float[np.ndarray, "blocks dim"],
    *,
    live: Bool[np.ndarray, " blocks"] | None,
    folder: epath.PathLike,
    config: IndexConfig,
) -> Search:
    """Opens a search over `embeddings` (which may be a memory map).

    Args:
        kind: exact, scann or lsh.
        live: False for blocks that must never be returned (tombstones); None if there are none.
        folder: local folder of the index version, which holds the files of `build_search_files`; see `files_serve`.

    Raises:
        ConfigError: a file of the version is missing or damaged, or this Python has no ScaNN.
    """
    if kind == "exact":
        return ExactSearch(embeddings, live)
    if kind == "scann":
        return scann.ScannSearch(embeddings, live, folder=folder, config=config)
    if kind == "lsh":
        return LshSearch(embeddings, live, tables=config.lsh_tables, bits=config.lsh_bits)
    raise ConfigError(f"index.search={kind!r} is unknown: use scann, exact or lsh")


def build_search_files(
    kind: str, embeddings: Float[np.ndarray, "blocks dim"], folder: epath.PathLike, config: IndexConfig
) -> dict:
    """Writes what `open_search` needs besides the embeddings, measures it, and returns facts for the manifest.

    Raises:
        ConfigError: the files could not be written, or this Python has no ScaNN.
    """
    if kind == "exact":
        return {}
    if kind == "lsh":
        return {"tables": config.lsh_tables, "bits": config.lsh_bits}
    if kind == "scann":
        info = scann.build(embeddings, folder=folder, config=config)
        found = open_search(kind, embeddings, live=None, folder=folder, config=config)
        info["recall_at_5"] = _measure_recall(found, embeddings)
        return info
    raise ConfigError(f"index.search={kind!r} is unknown: use scann, exact or lsh")


def files_serve(kind: str, built: int, num_blocks: int, config: IndexConfig) -> bool:
    """Whether the files that were built over the first `built` embeddings can be opened over `num_blocks` of them."""
    if kind != "scann":
        return True  # there are none
    return scann.serves(built, num_blocks, config)


def recall_at_k(found_ids: Int[np.ndarray, "batch k"], exact_ids: Int[np.ndarray, "batch k"]) -> float:
    """Share of the ids of the exact search that another search found too."""
    hits = (found_ids[:, :, None] == exact_ids[:, None, :]).any(axis=1) & (exact_ids >= 0)
    return float(hits.sum() / max(int((exact_ids >= 0).sum()), 1))


def sample_queries(embeddings: Float[np.ndarray, "blocks dim"], number: int) -> Float[np.ndarray, "batch dim"]:
    """Stand-ins for queries: rows drawn at random, every other one with noise of half its length added."""
    rng = np.random.default_rng(0)
    rows = np.sort(rng.integers(len(embeddings), size=number))
    query_emb = np.asarray(embeddings[rows], np.float32)
    noise = rng.standard_normal(query_emb.shape).astype(np.float32)
    noise *= 0.5 * np.linalg.norm(query_emb, axis=1, keepdims=True) / np.linalg.norm(noise, axis=1, keepdims=True)
    noise[::2] = 0
    return query_emb + noise


def _measure_recall(found: Search, embeddings: np.ndarray) -> float:
    query_emb = sample_queries(embeddings, min(RECALL_QUERIES, 2 * len(embeddings)))
    exact_ids = search_in_parts(embeddings, np.ones(len(embeddings), bool), query_emb, RECALL_K)[0]
    found_ids, _ = found.search(query_emb, RECALL_K)
    return round(recall_at_k(found_ids, exact_ids), 4)
