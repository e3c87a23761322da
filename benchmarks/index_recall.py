"""Recall, speed and size of the three searches over the same embeddings.

    python benchmarks/index_recall.py [--blocks=200000] [--embeddings=FILE.npy]

Without a file the embeddings are synthetic: clusters of about 50 blocks, 128 dimensions, |e|^2 about 1. Queries are
rows, half of them with noise of half their length. Writes benchmarks/results/index_recall.json.
"""

import tempfile
import time
from pathlib import Path

import numpy as np
import tyro
from report import write_result

from realm_jax.config import IndexConfig
from realm_jax.index import scann
from realm_jax.index.exact import ExactSearch
from realm_jax.index.lsh import LshSearch
from realm_jax.index.search import recall_at_k, sample_queries

DIM = 128
K = 5
LEAVES_SHARES = (0.02, 0.05, 0.1, 0.2, 0.5)
LSH_SHAPES = ((4, 8), (16, 8), (64, 8), (16, 12), (64, 12), (256, 12))


def synthetic(blocks: int) -> np.ndarray:
    """float32 [blocks, DIM] in clusters, from a fixed seed."""
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((max(blocks // 50, 1), DIM), np.float32)
    noise = rng.standard_normal((blocks, DIM), np.float32)
    return (centres[rng.integers(len(centres), size=blocks)] + 0.6 * noise) * np.float32((1.36 * DIM) ** -0.5)


def measure(name: str, search, query_emb: np.ndarray, exact_ids: np.ndarray | None, **facts) -> dict:
    """One row of the table; `exact_ids` is None for the exact search itself. LSH says itself what it scored."""
    search.search(query_emb, K)  # compiles, and reads the memory map
    start = time.perf_counter()
    ids, _ = search.search(query_emb, K)
    seconds = time.perf_counter() - start
    recall = 1.0 if exact_ids is None else recall_at_k(ids, exact_ids[: len(ids)])
    if isinstance(search, LshSearch):
        facts["share_scored"] = round(float(search.share_scored.mean()), 4)
    row = {"search": name, "recall_at_5": round(recall, 4), "queries_per_s": round(len(query_emb) / seconds), **facts}
    print("  ".join(f"{key}={value}" for key, value in row.items()), flush=True)
    return row


def scann_rows(embeddings: np.ndarray, query_emb: np.ndarray, exact_ids: np.ndarray) -> list[dict]:
    """Brute force, AH, and a tree at several shares of its leaves, whatever the corpus size would choose."""
    rows = []
    for limit, shares in ((np.inf, (0.1,)), (0, LEAVES_SHARES)):
        scann.BRUTE_FORCE_LIMIT, scann.TREE_LIMIT = 0, limit
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            scoring = scann.build(embeddings, folder=folder, config=IndexConfig())["scoring"]
            seconds = round(time.perf_counter() - start, 2)
            size = sum(file.stat().st_size for file in Path(folder).rglob("*.*")) / len(embeddings)
            for share in shares:
                search = scann.ScannSearch(embeddings, folder=folder, config=IndexConfig(scann_leaves_to_search=share))
                facts = (
                    {"leaves_share": share, "share_scored": share} if scoring == "tree_ah" else {"share_scored": 1.0}
                )
                facts |= {"build_s": seconds, "bytes_per_block": round(size)}
                rows.append(measure(f"scann {scoring}", search, query_emb, exact_ids, **facts))
    start = time.perf_counter()
    search = scann.ScannSearch(embeddings, folder="", config=IndexConfig(scann_leaves_to_search=1.0))
    facts = {"build_s": round(time.perf_counter() - start, 2), "bytes_per_block": 4 * embeddings.shape[1]}
    return [measure("scann brute_force", search, query_emb, exact_ids, share_scored=1.0, **facts), *rows]


def lsh_rows(embeddings: np.ndarray, query_emb: np.ndarray, exact_ids: np.ndarray) -> list[dict]:
    """Sign random projections at several numbers of tables and bits; a quarter of the queries, because it is slow."""
    rows = []
    for tables, bits in LSH_SHAPES:
        start = time.perf_counter()
        search = LshSearch(embeddings, tables=tables, bits=bits)
        facts = {"tables": tables, "bits": bits, "build_s": round(time.perf_counter() - start, 2)}
        facts["bytes_per_block"] = round(4 * tables + 8 * tables * (1 << bits) / len(embeddings))
        rows.append(measure("lsh", search, query_emb[: len(query_emb) // 4], exact_ids, **facts))
    return rows


def main(blocks: int = 200_000, embeddings: Path | None = None, queries: int = 1024) -> None:
    """Measures the searches.

    Args:
        blocks: Number of synthetic blocks, or of rows read from the file at most.
        embeddings: A .npy file of float32 [blocks, dim], such as the one in an index version.
        queries: Number of queries.
    """
    block_emb = synthetic(blocks) if embeddings is None else np.load(embeddings, mmap_mode="r")[:blocks]
    query_emb = sample_queries(block_emb, queries)
    start = time.perf_counter()
    exact = ExactSearch(block_emb)
    facts = {"build_s": round(time.perf_counter() - start, 2), "bytes_per_block": 4 * block_emb.shape[1]}
    exact_ids, _ = exact.search(query_emb, K)
    rows = [measure("exact", exact, query_emb, None, share_scored=1.0, **facts)]
    rows += scann_rows(block_emb, query_emb, exact_ids) + lsh_rows(block_emb, query_emb, exact_ids)
    note = (
        "bytes_per_block: memory besides the memory-mapped embeddings. share_scored of a ScaNN tree is the share of "
        "its leaves, scored by AH. build_s includes training."
    )
    shape = {"blocks": len(block_emb), "dim": block_emb.shape[1], "queries": queries, "k": K}
    print(write_result("index_recall", {**shape, "embeddings": str(embeddings or "synthetic"), "rows": rows}, note))


if __name__ == "__main__":
    tyro.cli(main)
