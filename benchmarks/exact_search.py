"""Exact search on the devices beside `lax.top_k` over whole rows of scores, which is the plain way to write it.

    python benchmarks/exact_search.py [--sizes 1000000:float32 13353718:bfloat16]

Embeddings are drawn, 128 dimensions; 64 queries at once; the two take turns. The plain way holds a score of every block
for every query, and for bfloat16 a float32 copy of the embeddings, both of which XLA counts (`temporary_bytes`). Writes
benchmarks/results/exact_search.json.
"""

import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import tyro
from jax import lax
from report import write_result

from realm_jax.index.exact import ExactSearch

DIM, K, QUERIES, TURNS, CHUNK = 128, 5, 64, 5, 1 << 18


def drawn(blocks: int, dtype: str) -> np.ndarray:
    """[blocks, DIM] from a fixed seed, made chunk by chunk."""
    rng = np.random.default_rng(0)
    out = np.empty((blocks, DIM), ml_dtypes.bfloat16 if dtype == "bfloat16" else np.float32)
    for start in range(0, blocks, CHUNK):
        rows = out[start : start + CHUNK]
        rows[:] = rng.standard_normal(rows.shape, np.float32)
    return out


def whole_rows(query_emb: jax.Array, embeddings: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Scores and ids of the K best, from all scores."""
    products = jnp.einsum("bd,nd->bn", query_emb, embeddings.astype(jnp.float32), precision=lax.Precision.HIGHEST)
    return lax.top_k(products, K)


def seconds(run: Callable) -> float:
    """Of one call."""
    start = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - start


def measure(blocks: int, dtype: str) -> dict:
    """One row: seconds of both, and whether they find the same blocks."""
    embeddings = drawn(blocks, dtype)
    query_emb = np.random.default_rng(1).standard_normal((QUERIES, DIM)).astype(np.float32)
    exact, on_device = ExactSearch(embeddings), jnp.asarray(embeddings)
    del embeddings
    plain = jax.jit(whole_rows).lower(query_emb, on_device).compile()
    both = {"ours_s": lambda: exact.search(query_emb, K), "whole_rows_s": lambda: plain(query_emb, on_device)}
    same = bool((both["ours_s"]()[0] == np.asarray(both["whole_rows_s"]()[1])).all())  # compiles, too
    turns = [{name: seconds(run) for name, run in both.items()} for _ in range(TURNS)]
    row = {name: round(statistics.median(turn[name] for turn in turns), 3) for name in both}
    row = {
        "blocks": blocks,
        "dtype": dtype,
        **row,
        "ratio": round(row["whole_rows_s"] / row["ours_s"], 2),
        "same": same,
    }
    row["whole_rows_temporary_bytes"] = temporary_bytes(plain)
    print(row, flush=True)
    return row


def temporary_bytes(program) -> int:
    """What XLA allocates beside a program's inputs and outputs."""
    return program.memory_analysis().temp_size_in_bytes


def main(sizes: tuple[str, ...] = ("1000000:float32", "1000000:bfloat16", "13353718:bfloat16"), note: str = "") -> None:
    """Measures both ways.

    Args:
        sizes: Numbers of blocks with the type of their embeddings.
        note: What else the machine did.
    """
    rows = [measure(int(blocks), dtype) for blocks, dtype in (size.split(":") for size in sizes)]
    print(write_result("exact_search", {"dim": DIM, "queries": QUERIES, "k": K, "turns": TURNS, "rows": rows}, note))


if __name__ == "__main__":
    tyro.cli(main)
