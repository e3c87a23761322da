"""Anonymous memory per block of a process that holds an open corpus and a search over it.

Builds a corpus of synthetic blocks through the real writer, then opens it in fresh processes with random bfloat16
embeddings of 128 dimensions, once with the exact search and once with ScaNN, and reads `Anonymous` from
/proc/self/smaps_rollup: file pages of memory maps, which the kernel may drop at any time, are not in it. Linux only.

    python benchmarks/corpus_memory.py --blocks=1000000
"""

import argparse
import concurrent.futures
import contextlib
import multiprocessing
import pathlib
import tempfile
import threading
import time
from collections.abc import Callable, Iterator

import ml_dtypes
import numpy as np
import report
import tokenizers
from tokenizers import models, normalizers, pre_tokenizers

from realm_jax.config import IndexConfig
from realm_jax.data.corpus import Corpus, build
from realm_jax.index.search import build_search_files, open_search
from realm_jax.types import Record, Span

DIM = 128
NUM_WORDS = 20_000
BLOCK_LEN_TOKENS = 96
BLOCKS_PER_RECORD = 2
SENTENCE_WORDS = 20
BATCH = 256


def main() -> None:
    """Builds, measures and writes benchmarks/results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=1_000_000, help="blocks of the synthetic corpus")
    num_blocks = parser.parse_args().blocks
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        values = _in_fresh_process(_build, folder, num_blocks)
        for kind in ("exact", "scann"):
            values |= _in_fresh_process(_prepare, folder, kind)
            values |= _in_fresh_process(_measure, folder, kind)
    note = "Embeddings are random: they show memory, not how well a search finds."
    report.write_result("corpus_memory", values, note)
    for name, value in values.items():
        print(f"{name:45} {value}")


def _in_fresh_process(function: Callable[..., dict], *args) -> dict:
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *args).result()


def _build(folder: pathlib.Path, num_blocks: int) -> dict:
    words = [f"w{i}" for i in range(NUM_WORDS)]
    vocab = {piece: i for i, piece in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", *words])}
    tokenizer = tokenizers.Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    start = time.monotonic()
    corpus = build(
        _records(num_blocks // BLOCKS_PER_RECORD, words),
        folder / "corpus",
        tokenizer=tokenizer,
        tag=lambda sentences, title: [[Span(0, sentence.index(" "), "ENTITY")] for sentence in sentences],
        block_len_tokens=BLOCK_LEN_TOKENS,
        description={"source": "synthetic", "fingerprint": "", "tagger": "first word"},
    )
    seconds = time.monotonic() - start
    with open(folder / "embeddings.bin", "wb") as file:
        rng = np.random.default_rng(1)
        for first in range(0, corpus.num_blocks, 1 << 16):
            rows = min(1 << 16, corpus.num_blocks - first)
            file.write(rng.standard_normal((rows, DIM), np.float32).astype(ml_dtypes.bfloat16).tobytes())
    size = sum(path.stat().st_size for path in (folder / "corpus").rglob("*.bin"))
    return {
        "blocks": corpus.num_blocks,
        "mean block length in wordpieces": round(float(corpus.lengths.mean()), 1),
        "blocks built per second": round(corpus.num_blocks / seconds),
        "corpus on disk, bytes a block": round(size / corpus.num_blocks),
    }


def _records(num: int, words: list[str]) -> Iterator[Record]:
    rng = np.random.default_rng(0)
    sentences_per_block = (BLOCK_LEN_TOKENS - 4) // (SENTENCE_WORDS + 1)
    for i in range(num):
        drawn = rng.integers(NUM_WORDS, size=(BLOCKS_PER_RECORD * sentences_per_block, SENTENCE_WORDS)).tolist()
        text = "\n".join(" ".join(words[j].capitalize() for j in sentence) + "." for sentence in drawn)
        yield Record(f"record-{i}", words[i % NUM_WORDS], text)


def _prepare(folder: pathlib.Path, kind: str) -> dict:
    (folder / kind).mkdir()
    facts = build_search_files(kind, _embeddings(folder), folder / kind, IndexConfig())
    return {f"{kind}: {name}": value for name, value in facts.items() if not name.startswith("recall")}


def _measure(folder: pathlib.Path, kind: str) -> dict:
    warm_up = np.ones((BATCH, DIM), ml_dtypes.bfloat16)
    (folder / "warm-up").mkdir(exist_ok=True)
    open_search("exact", warm_up, live=None, folder=folder / "warm-up", config=IndexConfig()).search(warm_up, 8)
    rng = np.random.default_rng(2)
    baseline = _anonymous_bytes()
    with _peak() as peak:
        corpus = Corpus.open(folder / "corpus")
        live = corpus.is_live(np.arange(corpus.num_blocks))
        search = open_search(kind, _embeddings(folder), live=live, folder=folder / kind, config=IndexConfig())
        longest = int(corpus.lengths.max())
        start = time.monotonic()
        for _ in range(5):
            ids, _ = search.search(rng.standard_normal((BATCH, DIM), np.float32), 8)
            corpus.embedder_tokens(ids, longest)
            corpus.block_hashes(ids)
        seconds = time.monotonic() - start
        used = _anonymous_bytes() - baseline
    return {
        f"{kind}: anonymous bytes a block": round(used / corpus.num_blocks, 1),
        f"{kind}: anonymous bytes a block at the peak": round((peak[0] - baseline) / corpus.num_blocks, 1),
        f"{kind}: searches and gathers per second": round(5 * BATCH / seconds),
    }


def _embeddings(folder: pathlib.Path) -> np.ndarray:
    return np.memmap(folder / "embeddings.bin", ml_dtypes.bfloat16, "r").reshape(-1, DIM)


def _anonymous_bytes() -> int:
    with open("/proc/self/smaps_rollup") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("Anonymous:"))


@contextlib.contextmanager
def _peak() -> Iterator[list[int]]:
    """The largest anonymous memory, sampled every 20 ms by a thread, in a list of one."""
    peak, done = [0], threading.Event()

    def sample() -> None:
        while not done.wait(0.02):
            peak[0] = max(peak[0], _anonymous_bytes())

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()


if __name__ == "__main__":
    main()
