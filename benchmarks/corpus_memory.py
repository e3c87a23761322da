"""Bytes per block: a corpus on disk, and the anonymous memory of building a search and of holding corpus and search.

Builds a corpus of synthetic blocks through the real writer, then, in fresh processes, the files of the exact search and
of ScaNN over random bfloat16 embeddings of 128 dimensions, and opens each beside the corpus. Linux only.

    python benchmarks/corpus_memory.py --blocks=1000000
    python benchmarks/corpus_memory.py --blocks=200000 --sentences=8 --words=26 --spans=2 --name=long_blocks_memory
"""

import argparse
import concurrent.futures
import multiprocessing
import pathlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import ml_dtypes
import numpy as np
import report
import tokenizers
from anonymous import anonymous_bytes, peak_anonymous
from tokenizers import models, normalizers, pre_tokenizers

from realm_jax.config import IndexConfig
from realm_jax.data.corpus import Corpus
from realm_jax.data.corpus_writer import build
from realm_jax.index.search import build_search_files, open_search
from realm_jax.records import Record, Span

DIM = 128
NUM_WORDS = 20_000
BLOCKS_PER_RECORD = 2
BATCH = 256
NOTE = "Embeddings are random and bfloat16: they show memory, not how well a search finds."


@dataclass(frozen=True)
class Shape:
    """What every block is made of."""

    sentences: int
    words: int
    """Of a sentence; with its full stop it has one wordpiece more."""
    spans: int
    """Of a sentence: its first words, each a span."""

    @property
    def length(self) -> int:
        """In wordpieces, with a title of one and three special ones."""
        return self.sentences * (self.words + 1) + 4


def main() -> None:
    """Builds, measures and writes benchmarks/results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", type=int, default=1_000_000, help="blocks of the synthetic corpus")
    parser.add_argument("--sentences", type=int, default=4, help="of a block")
    parser.add_argument("--words", type=int, default=20, help="of a sentence")
    parser.add_argument("--spans", type=int, default=1, help="salient spans of a sentence")
    parser.add_argument("--name", default="corpus_memory", help="of the result")
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        values = _in_fresh_process(_build, folder, flags.blocks, Shape(flags.sentences, flags.words, flags.spans))
        for kind in ("exact", "scann"):
            values |= _in_fresh_process(_prepare, folder, kind)
            values |= _in_fresh_process(_measure, folder, kind)
    report.write_result(flags.name, values, NOTE)
    for name, value in values.items():
        print(f"{name:45} {value}")


def _in_fresh_process(function: Callable[..., dict], *args) -> dict:
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *args).result()


def _build(folder: pathlib.Path, num_blocks: int, shape: Shape) -> dict:
    words = [f"w{i}" for i in range(NUM_WORDS)]
    vocab = {piece: i for i, piece in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", ".", *words])}
    tokenizer = tokenizers.Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    corpus = build(
        _records(num_blocks // BLOCKS_PER_RECORD, words, shape),
        folder / "corpus",
        tokenizer=tokenizer,
        tag=lambda sentences, title: [_first_words(sentence, shape.spans) for sentence in sentences],
        block_len_tokens=shape.length + shape.words // 2,  # one sentence more does not fit
        description={"source": "synthetic", "fingerprint": "", "tagger": "first words"},
    )
    with open(folder / "embeddings.bin", "wb") as file:
        rng = np.random.default_rng(1)
        for first in range(0, corpus.num_blocks, 1 << 16):
            rows = min(1 << 16, corpus.num_blocks - first)
            file.write(rng.standard_normal((rows, DIM), np.float32).astype(ml_dtypes.bfloat16).tobytes())
    size = sum(path.stat().st_size for path in (folder / "corpus").rglob("*.bin"))
    return {
        "blocks": corpus.num_blocks,
        "mean block length in wordpieces": round(float(corpus.lengths.mean()), 1),
        "mean spans of a block": round(sum(len(s.spans) for s in corpus.segments) / corpus.num_blocks, 1),
        "corpus on disk, bytes a block": round(size / corpus.num_blocks),
    }


def _records(num: int, words: list[str], shape: Shape) -> Iterator[Record]:
    rng = np.random.default_rng(0)
    for i in range(num):
        drawn = rng.integers(NUM_WORDS, size=(BLOCKS_PER_RECORD * shape.sentences, shape.words)).tolist()
        text = "\n".join(" ".join(words[j].capitalize() for j in sentence) + "." for sentence in drawn)
        yield Record(f"record-{i}", words[i % NUM_WORDS], text)


def _first_words(sentence: str, count: int) -> list[Span]:
    spans, start = [], 0
    for word in sentence.split(" ")[:count]:
        spans.append(Span(start, start + len(word), "ENTITY"))
        start += len(word) + 1
    return spans


def _prepare(folder: pathlib.Path, kind: str) -> dict:
    (folder / kind).mkdir()
    embeddings = _embeddings(folder)
    _warm_up(folder)
    baseline = anonymous_bytes()
    with peak_anonymous() as peak:
        facts = build_search_files(kind, embeddings, folder / kind, IndexConfig())
    found = {f"{kind}: {name}": value for name, value in facts.items() if name not in ("blocks", "recall_at_5")}
    if facts:
        found[f"{kind}: anonymous bytes a block in a build"] = round((peak[0] - baseline) / len(embeddings), 1)
    return found


def _measure(folder: pathlib.Path, kind: str) -> dict:
    _warm_up(folder)
    rng = np.random.default_rng(2)
    baseline = anonymous_bytes()
    with peak_anonymous() as peak:
        corpus = Corpus.open(folder / "corpus")
        live = corpus.is_live(np.arange(corpus.num_blocks))
        search = open_search(kind, _embeddings(folder), live=live, folder=folder / kind, config=IndexConfig())
        longest = int(corpus.lengths.max())
        for _ in range(5):
            ids, _ = search.search(rng.standard_normal((BATCH, DIM), np.float32), 8)
            corpus.embedder_tokens(ids, longest)
            corpus.block_hashes(ids)
        used = anonymous_bytes() - baseline
    return {
        f"{kind}: anonymous bytes a block": round(used / corpus.num_blocks, 1),
        f"{kind}: anonymous bytes a block at the peak": round((peak[0] - baseline) / corpus.num_blocks, 1),
    }


def _warm_up(folder: pathlib.Path) -> None:
    """JAX takes its own memory, which no number of blocks changes."""
    rows = np.ones((BATCH, DIM), ml_dtypes.bfloat16)
    open_search("exact", rows, live=None, folder=folder, config=IndexConfig()).search(rows, 8)


def _embeddings(folder: pathlib.Path) -> np.ndarray:
    return np.memmap(folder / "embeddings.bin", ml_dtypes.bfloat16, "r").reshape(-1, DIM)


if __name__ == "__main__":
    main()
