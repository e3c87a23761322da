"""What a search costs: recall@5 against queries a second of ScaNN, exact search and faiss, in one run.

    python -m venv .venv-faiss && .venv-faiss/bin/pip install -r benchmarks/requirements-faiss.txt
    python benchmarks/search.py --workdir=W [--blocks=1000000] [--faiss=.venv-faiss/bin/python]

The embeddings are those of a run's newest index version, copied with noise up to the wanted number; the queries are
masked sentences of the run. Every engine builds and searches on one core, with the same batches, and they take turns:
each setting is measured once a turn, its figure is the median. (With a thread for every core, faiss waits at its
barriers for whatever else the machine does.) faiss runs in a process of its own, which waits while others search.
Writes benchmarks/results/search.json.
"""

import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import tyro
from report import write_result
from rival import Rival

from realm_jax.config import IndexConfig
from realm_jax.data.prepare import open_prepared
from realm_jax.index import scann, tuning
from realm_jax.index.exact import ExactSearch, search_in_parts
from realm_jax.index.search import recall_at_k
from realm_jax.index.store import IndexStore
from realm_jax.workdir import Workdir

K, BATCH, TURNS, QUERIES = 5, 256, 3, 1024
RECALL = 0.99
LEAVES = (0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15)
REORDER = (100, 150, 200, 300, 400, 600)


@dataclass
class Contender:
    """An engine with a setting: `run` searches all queries once and returns (seconds, ids)."""

    engine: str
    setting: str
    run: Callable[[], tuple[float, np.ndarray]]
    seconds: list[float] = field(default_factory=list)
    recall: float = 0.0


def tiled(embeddings: np.ndarray, blocks: int, noise: float) -> np.ndarray:
    """float32 [blocks, dim]: the rows as they are, then again with noise of `noise` times their length, from a seed."""
    rng, out = np.random.default_rng(0), np.empty((blocks, embeddings.shape[1]), np.float32)
    for start in range(0, blocks, len(embeddings)):
        rows = np.asarray(embeddings[: blocks - start], np.float32)
        if start:
            drawn = rng.standard_normal(rows.shape, np.float32)
            lengths = np.linalg.norm(rows, axis=1, keepdims=True) / np.linalg.norm(drawn, axis=1, keepdims=True)
            rows = rows + noise * lengths * drawn
        out[start : start + len(rows)] = rows
    return out


def timed(search, query_emb: np.ndarray) -> Callable[[], tuple[float, np.ndarray]]:
    """The `run` of one of our searches."""

    def run() -> tuple[float, np.ndarray]:
        start = time.perf_counter()
        ids = [search.search(query_emb[at : at + BATCH], K)[0] for at in range(0, len(query_emb), BATCH)]
        return time.perf_counter() - start, np.concatenate(ids)

    return run


def ours(block_emb: np.ndarray, query_emb: np.ndarray, folder: str, builds: dict) -> Iterator[Contender]:
    """The exact search, and ScaNN with a tree at several settings; notes in `builds` how long each took to build."""
    start = time.perf_counter()
    exact = ExactSearch(block_emb)
    builds["exact"] = round(time.perf_counter() - start, 1)
    yield Contender("exact", "", timed(exact, query_emb))
    scann.BRUTE_FORCE_LIMIT = scann.TREE_LIMIT = 0
    for engine, soar in (("scann", False), ("scann SOAR", True)):
        start, own = time.perf_counter(), os.path.join(folder, engine)
        os.mkdir(own)
        scann.build(block_emb, folder=own, config=IndexConfig(scann_soar=soar))
        builds[engine] = round(time.perf_counter() - start, 1)
        search = scann.ScannSearch(block_emb, folder=own, config=IndexConfig())
        for leaves in LEAVES:
            for reorder in REORDER:
                settings = IndexConfig(scann_leaves_to_search=leaves, scann_reorder=reorder)
                name = f"leaves {100 * leaves:g}%, reorder {reorder}"
                yield Contender(engine, name, timed(search.with_settings(settings), query_emb))


def offered(faiss: Rival, builds: dict) -> Iterator[Contender]:
    """The contenders that search_faiss.py offers, once it has built them."""
    while (found := json.loads(faiss.answer())) != "ready":
        print(f"{found['index']} ({found['words']}): built in {found['build_s']} s", flush=True)
        builds[found["index"]] = found["build_s"]
        for value in found["values"]:
            for reorder in found["reorder"]:
                again = f", reorder {reorder}" if reorder else ""
                yield Contender(
                    found["index"],
                    f"{found['setting']} {value}{again}" if found["setting"] else "",
                    asked(faiss, [found["index"], value, reorder]),
                )


def asked(faiss: Rival, request: list) -> Callable[[], tuple[float, np.ndarray]]:
    """The `run` of one of faiss' searches."""

    def run() -> tuple[float, np.ndarray]:
        answer = json.loads(faiss.ask(json.dumps(request)))
        return answer["seconds"], np.array(answer["ids"])

    return run


def take_turns(contenders: list[Contender], exact_ids: np.ndarray) -> None:
    """Measures all, `TURNS` times one after the other; the turn before does not count: it compiles and reads."""
    for turn in range(-1, TURNS):
        for contender in contenders:
            seconds, ids = contender.run()
            contender.recall = recall_at_k(ids, exact_ids)
            if turn >= 0:
                contender.seconds.append(seconds)
        print(f"turn {turn + 1} of {TURNS} done", flush=True)


def fastest(rows: list[dict]) -> dict[str, dict]:
    """The fastest row of each engine that reaches `RECALL`."""
    reaching = [row for row in rows if row["recall_at_5"] >= RECALL]
    best = {}
    for row in sorted(reaching, key=lambda row: row["queries_per_s"]):
        best[row["engine"]] = row
    return best


def over_best_faiss(best: dict[str, dict]) -> dict[str, float]:
    """Queries/s of each of ScaNN's rows over those of the fastest index of faiss."""
    rivals = [row["queries_per_s"] for engine, row in best.items() if engine.startswith("faiss")]
    ours = {engine: row["queries_per_s"] for engine, row in best.items() if engine.startswith("scann")}
    return {engine: round(rate / max(rivals), 2) for engine, rate in ours.items()} if rivals else {}


def main(
    workdir: Path,
    blocks: int = 1_000_000,
    faiss: Path = Path(".venv-faiss/bin/python"),
    noise: float = 0.3,
    note: str = "",
) -> None:
    """Measures the engines.

    Args:
        workdir: A run with an index version.
        blocks: How many embeddings to make of its own.
        faiss: The Python of the venv that has faiss.
        noise: Length of the noise of each copy, as a share of the embedding's.
        note: What else the machine did.
    """
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-1:])  # before there are threads, which inherit it
    run = Workdir.open(workdir)
    data, version, threads = open_prepared(run), IndexStore(run.index_folder).latest(), 1
    params = {"shared": version.load_tower()}
    query_emb, what = tuning.query_embeddings(version, data, run.config, params, QUERIES)
    real = version.load_embeddings()
    block_emb = tiled(real, blocks, noise)
    exact_ids, _ = search_in_parts(block_emb, np.ones(blocks, bool), query_emb, K)
    builds: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        files = [os.path.join(folder, name) for name in ("blocks.npy", "queries.npy")]
        np.save(files[0], block_emb)
        np.save(files[1], query_emb)
        contenders = list(ours(block_emb, query_emb, folder, builds))
        print(f"built: {builds}", flush=True)
        with Rival(faiss, "search_faiss", *files, threads, BATCH, K) as rival:
            contenders += offered(rival, builds)
            take_turns(contenders, exact_ids)
    rows = []
    for contender in contenders:
        rate = round(len(query_emb) / statistics.median(contender.seconds))
        row = {"engine": contender.engine, "setting": contender.setting, "recall_at_5": round(contender.recall, 4)}
        rows.append({**row, "queries_per_s": rate})
        print(rows[-1], flush=True)
    shape = {"blocks": blocks, "real_blocks": min(len(real), blocks), "dim": real.shape[1], "noise": noise, "k": K}
    shape |= {"queries": len(query_emb), "queries_are": what, "batch": BATCH, "threads": threads, "turns": TURNS}
    best = fastest(rows)
    ratios = over_best_faiss(best)
    values = {**shape, "build_s": builds, "recall_wanted": RECALL, "fastest": best, "over_best_faiss": ratios}
    print(best, ratios)
    print(write_result("search", {**values, "rows": rows}, note))


if __name__ == "__main__":
    tyro.cli(main)
