"""A corpus's BM25 index on disk, in the form of bm25s, which reads it by memory map.

    bm25-<key>/   data, indices, indptr (postings by word), vocab, params, and manifest.json, written last

It is built in two passes over parts of the corpus. The first counts the words of each block and spills them, sorted by
word; the second takes a range of words from all spills, scores it and appends it to the postings. Memory holds the
vocabulary, one part or range, and 4 bytes a block. The key is that of the segments: a corpus with further segments has
another index; deleted blocks stay in it, and `baselines.bm25` leaves them out.
"""

import itertools
import os
import pathlib
import tempfile
from collections.abc import Callable

import bm25s
import numpy as np
from etils import epath
from jaxtyping import Int32, Int64

from realm_jax.buckets import copy_files, is_remote
from realm_jax.checksums import check_files, describe_files
from realm_jax.data.built import BM25
from realm_jax.data.corpus import Corpus
from realm_jax.data.manifest import MANIFEST, sha256
from realm_jax.data.new_folder import new_folder
from realm_jax.local_cache import Held
from realm_jax.progress import Progress
from realm_jax.workdir import read_json, write_json

PART_BLOCKS = 1 << 16  # whose words are counted at once
RANGE_POSTINGS = 1 << 23  # (word, block) pairs that are scored at once
KEY_LEN = 16  # hexadecimal digits


class Bm25Index:
    """The index of a corpus: the one beside it if `build_beside` made one, else a copy in the cache, built if need be.

    The cache keeps one index for all versions of a corpus, that of the newest one.
    """

    def __init__(self, corpus: Corpus):
        beside = corpus.folder / _name(corpus)
        is_beside = (beside / MANIFEST).exists()
        self._held: Held | None = None
        if is_beside and not is_remote(beside):
            folder = pathlib.Path(beside)
        else:
            fill = _download(beside) if is_beside else lambda folder: build(corpus, folder)
            self._held = Held(f"{BM25}/{corpus.segment_hashes[0][:KEY_LEN]}/{_name(corpus)}", fill)
            folder = self._held.folder
        _check(folder, folder)
        self.scores = bm25s.BM25.load(folder, mmap=True, show_progress=False)


def build_beside(corpus: Corpus) -> epath.Path:
    """Builds the index into the corpus's folder, whole or not at all, unless it is there; returns its folder."""
    folder = corpus.folder / _name(corpus)
    if not (folder / MANIFEST).exists():
        with new_folder(folder) as partial:
            build(corpus, partial)
    return folder


def build(corpus: Corpus, folder: pathlib.Path) -> None:
    """Writes the index of all blocks (title and text), deleted ones included, into a local folder."""
    with tempfile.TemporaryDirectory(dir=folder) as spill:
        parts = _Parts(pathlib.Path(spill))
        progress = Progress("BM25, blocks")
        for start in range(0, corpus.num_blocks, PART_BLOCKS):
            numbers = range(start, min(start + PART_BLOCKS, corpus.num_blocks))
            blocks = (corpus.block(i) for i in numbers)
            parts.add([f"{block.title} {block.text}" for block in blocks])
            progress(numbers.stop, corpus.num_blocks)
        index = bm25s.BM25()
        index.scores, index.vocab_dict, index.nonoccurrence_array = parts.postings(index), parts.vocab, None
        index.save(folder, show_progress=False)
    files = describe_files(folder)
    write_json(epath.Path(folder) / MANIFEST, {"segment_hashes": corpus.segment_hashes, "files": files})


class _Parts:
    """Words of the blocks so far, counted and spilled part by part.

    Args:
        folder: takes the spills.
    """

    def __init__(self, folder: pathlib.Path):
        self._folder = folder
        self.vocab: dict[str, int] = {}
        self._blocks_with_word = np.zeros(0, np.int64)
        self._lengths: list[Int32[np.ndarray, " blocks"]] = []
        self._spills: list[np.ndarray] = []

    def add(self, texts: list[str]) -> None:
        """Counts the words of the next blocks."""
        tokens = bm25s.tokenize(texts, stopwords="en", show_progress=False)
        ours = np.array([self.vocab.setdefault(word, len(self.vocab)) for word in tokens.vocab], np.int64)
        lengths = np.array([len(ids) for ids in tokens.ids], np.int32)
        first = sum(map(len, self._lengths))
        self._lengths.append(lengths)
        words = ours[np.fromiter(itertools.chain.from_iterable(tokens.ids), np.int64, lengths.sum())]
        blocks = np.repeat(np.arange(first, first + len(texts)), lengths)
        pairs, counts = np.unique(words << 32 | blocks, return_counts=True)
        spilled = np.stack([pairs >> 32, pairs & 0xFFFFFFFF, counts]).astype(np.int32)  # word, block, how often
        file = self._folder / f"{len(self._spills)}.npy"
        np.save(file, spilled)
        self._spills.append(np.load(file, mmap_mode="r"))
        self._blocks_with_word = np.pad(self._blocks_with_word, (0, len(self.vocab) - len(self._blocks_with_word)))
        np.add.at(self._blocks_with_word, spilled[0], 1)

    def postings(self, bm25: bm25s.BM25) -> dict:
        """The scores of all words in all blocks, by word and block, as bm25s has them; closes the vocabulary.

        Lucene's variant of BM25, which is bm25s's default, with its types: float32 but for the length's part.
        """
        lengths, df = np.concatenate(self._lengths), self._blocks_with_word
        ends = np.concatenate([[0], np.cumsum(df)])
        idf = np.log(1 + (len(lengths) - df + 0.5) / (df + 0.5)).astype(np.float32)
        mean_length = lengths.mean()
        size = int(ends[-1])
        data, indices = self._empty("data", np.float32, size), self._empty("indices", np.int32, size)
        for low, high in _ranges(ends):
            found = np.concatenate([_between(spill, low, high) for spill in self._spills], axis=1)
            words, blocks, counts = found[:, np.argsort(found[0], kind="stable")]
            counts = counts.astype(np.float32)
            norm = bm25.k1 * ((1 - bm25.b) + bm25.b * lengths[blocks] / mean_length)
            at = slice(ends[low], ends[high])
            data[at], indices[at] = idf[words] * (counts / (norm + counts)), blocks
        self.vocab.setdefault("", len(self.vocab))
        return {"data": data, "indices": indices, "indptr": ends, "num_docs": len(lengths)}

    def _empty(self, name: str, dtype: type, length: int) -> np.ndarray:
        if not length:
            return np.empty(0, dtype)
        return np.lib.format.open_memmap(self._folder / f"{name}.npy", "w+", dtype, (length,))


def _ranges(ends: Int64[np.ndarray, " words"]) -> list[tuple[int, int]]:
    """Splits the words into ranges of about `RANGE_POSTINGS` postings, and of one word at least."""
    low, found = 0, []
    while low < len(ends) - 1:
        high = int(np.searchsorted(ends, ends[low] + RANGE_POSTINGS, side="right")) - 1
        found.append((low, max(high, low + 1)))
        low = found[-1][1]
    return found


def _between(spill: Int32[np.ndarray, "3 pairs"], low: int, high: int) -> Int32[np.ndarray, "3 found"]:
    """The pairs of the words from `low` to below `high`."""
    start, limit = np.searchsorted(spill[0], np.array([low, high], np.int32))
    return spill[:, start:limit]


def _download(beside: epath.Path) -> Callable[[pathlib.Path], None]:
    def fill(folder: pathlib.Path) -> None:
        copy_files([*read_json(beside / MANIFEST)["files"], MANIFEST], beside, epath.Path(folder))
        _check(folder, beside)

    return fill


def _check(folder: pathlib.Path, named: os.PathLike) -> None:
    """Raises Damaged if the index in `folder`, which the user knows as `named`, is not what was written."""
    manifest = epath.Path(folder) / MANIFEST
    files = read_json(manifest)["files"] if manifest.exists() else []
    if isinstance(files, dict):  # earlier releases made no checksums, and no manifest in copies
        check_files(folder, files, f"delete {named}, and it is built again", named)


def _name(corpus: Corpus) -> str:
    key = sha256("\n".join([*corpus.segment_hashes, bm25s.BM25().method, "title text, stopwords en"]))
    return f"{BM25}-{key[:KEY_LEN]}"
