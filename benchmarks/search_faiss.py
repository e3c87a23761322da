"""The side of faiss in benchmarks/search.py: a process in a venv of its own, that searches when it is told to.

    .venv-faiss/bin/python benchmarks/search_faiss.py BLOCKS.npy QUERIES.npy THREADS BATCH K

Builds every index, says so in a line of JSON each, and then `"ready"`. For each line `[index, setting]` on stdin it
searches all queries once and answers `{"seconds": …, "ids": […]}`. It imports nothing of ours.
"""

import json
import math
import sys
import time

import faiss
import numpy as np

SHARES = (0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15)  # of the leaves, and PROPOSALS: as for ScaNN
PROPOSALS = (100, 150, 200, 300, 400, 600)
EF_SEARCH = (16, 32, 48, 64, 80, 96, 128, 192, 256)
EF_CONSTRUCTION = 60
TRAINING_ROWS = 250_000


def factories(blocks: int) -> dict[str, tuple[str, str, tuple[int, ...]]]:
    """faiss' own words for each index, the name of its setting, and what to try; as many leaves as ScaNN has."""
    leaves = math.isqrt(blocks)
    probes = tuple(math.ceil(share * leaves) for share in SHARES)
    return {
        "faiss Flat": ("Flat", "", (0,)),
        "faiss IVF": (f"IVF{leaves},Flat", "nprobe", probes),
        "faiss IVF-PQ": (f"IVF{leaves},PQ64x4fs,RFlat", "nprobe", probes),
        "faiss HNSW": ("HNSW32", "efSearch", EF_SEARCH),
    }


def build(words: str, blocks: np.ndarray) -> faiss.Index:
    """The index with all blocks in it."""
    index = faiss.index_factory(blocks.shape[1], words, faiss.METRIC_INNER_PRODUCT)
    if words.startswith("HNSW"):
        index.hnsw.efConstruction = EF_CONSTRUCTION
    if not index.is_trained:
        rows = np.random.default_rng(0).permutation(len(blocks))[:TRAINING_ROWS]
        index.train(blocks[np.sort(rows)])
    index.add(blocks)
    return index


def configure(index: faiss.Index, name: str, value: int, factor: float) -> None:
    """Sets how much is looked at; a refined index scores `factor` proposals again for each of the k wanted."""
    if isinstance(index, faiss.IndexRefine):
        index.k_factor = factor
        index = faiss.downcast_index(index.base_index)
    if name:
        faiss.ParameterSpace().set_index_parameter(index, name, value)


def main(blocks_file: str, queries_file: str, threads: int, batch: int, k: int) -> None:
    """Builds, then answers until stdin ends."""
    faiss.omp_set_num_threads(threads)
    blocks, queries = np.load(blocks_file), np.load(queries_file)
    known, built = factories(len(blocks)), {}
    for name, (words, setting, values) in known.items():
        start = time.perf_counter()
        built[name] = build(words, blocks)
        seconds = round(time.perf_counter() - start, 1)
        reorder = PROPOSALS if words.endswith("RFlat") else (0,)
        offer = {"index": name, "words": words, "build_s": seconds}
        tell({**offer, "setting": setting, "values": values, "reorder": reorder})
    tell("ready")
    for line in sys.stdin:
        name, value, reorder = json.loads(line)
        configure(built[name], known[name][1], value, reorder / k)
        start = time.perf_counter()
        ids = [built[name].search(queries[at : at + batch], k)[1] for at in range(0, len(queries), batch)]
        tell({"seconds": time.perf_counter() - start, "ids": np.concatenate(ids).tolist()})


def tell(value: object) -> None:
    """Writes one line of JSON."""
    print(json.dumps(value), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:3], *map(int, sys.argv[3:]))
