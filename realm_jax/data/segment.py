"""One immutable segment of the corpus store: its columns, how they are written and how they are mapped.

Each column is a flat little-endian file without a header, `COLUMNS` gives its type. Reading checks the files against
the segment's hash, which reads each once as long as it stays the same, maps them and touches only what is asked for; of
a segment in a bucket, it maps a copy in the cache, which is found by that hash. Writing, on a local disk, holds one
batch of rows in memory.
"""

import hashlib
import os
import pathlib
import shutil
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from etils import epath
from jaxtyping import Int32, Shaped, UInt8, UInt16

from realm_jax.buckets import copy_files, is_remote
from realm_jax.checksums import remember, remembered_sha256
from realm_jax.config import ConfigError
from realm_jax.data.blocks import DROPS, NUM_SPECIALS, CutRecord, hash64
from realm_jax.data.mapped import map_file
from realm_jax.local_cache import copy_of

SOURCE = np.dtype(
    [("title_start", "<u8"), ("title_limit", "<u8"), ("title_token_start", "<u8"), ("title_token_limit", "<u8")]
    + [("id_start", "<u8"), ("id_limit", "<u8"), ("block_start", "<u4"), ("block_limit", "<u4"), ("hash", "<u8")]
)
"""A record; `hash` is that of its id and decides whether it is held out."""
BLOCK = np.dtype(
    [("source", "<u4"), ("text_start", "<u8"), ("text_limit", "<u8"), ("token_start", "<u8"), ("token_limit", "<u8")]
    + [("sentence_start", "<u8"), ("sentence_limit", "<u8"), ("span_start", "<u8"), ("span_limit", "<u8")]
    + [("hash", "<u8")]
)
"""A block; `hash` is that of its title and body: by it, the block that a query was taken from is banned."""
SENTENCE = np.dtype(
    [("block", "<u4"), ("byte_start", "<u4"), ("byte_limit", "<u4"), ("token_start", "<u4"), ("token_limit", "<u4")]
)
"""A sentence; `block` counts within the segment, bytes and tokens within the block's body."""
SPAN = np.dtype(
    [("block", "<u4"), ("sentence", "<u4"), ("byte_start", "<u4"), ("byte_limit", "<u4")]
    + [("token_start", "<u4"), ("token_limit", "<u4"), ("type", "u1"), ("text_hash", "<u8")]
)
"""A salient span; `sentence` and offsets count within its block; `type` indexes the segment's `span_types`."""
COLUMNS = {
    "tokens": np.dtype("<u2"),  # wordpieces of all bodies
    "text": np.dtype("u1"),  # UTF-8 of all bodies
    "title_tokens": np.dtype("<u2"),
    "titles": np.dtype("u1"),
    "ids": np.dtype("u1"),  # UTF-8 of the source ids
    "sources": SOURCE,
    "blocks": BLOCK,
    "sentences": SENTENCE,
    "spans": SPAN,
}

PLACES_OF_SOURCE = {"title": "titles", "title_token": "title_tokens", "id": "ids", "block": "blocks"}
PLACES_OF_BLOCK = {"text": "text", "token": "tokens", "sentence": "sentences", "span": "spans"}
"""Place -> the column that `PLACE_start` and `PLACE_limit` of a row point into."""


@dataclass(frozen=True)
class Segment:
    """Memory maps of one segment's columns, named as in `COLUMNS`."""

    folder: pathlib.Path
    """The local folder of the files that are mapped."""
    first_block: int
    """The ordinal of its block 0 over all segments."""
    span_types: list[str]
    tokens: UInt16[np.ndarray, " wordpieces"]
    text: UInt8[np.ndarray, " bytes"]
    title_tokens: UInt16[np.ndarray, " title_wordpieces"]
    titles: UInt8[np.ndarray, " title_bytes"]
    ids: UInt8[np.ndarray, " id_bytes"]
    sources: Shaped[np.ndarray, " sources"]
    blocks: Shaped[np.ndarray, " blocks"]
    sentences: Shaped[np.ndarray, " sentences"]
    spans: Shaped[np.ndarray, " spans"]

    @classmethod
    def open(cls, folder: epath.Path, entry: dict, first_block: int) -> "Segment":
        """Maps the segment that a manifest's entry describes. Raises ConfigError if a file is missing or damaged."""
        folder, columns = _local(folder, entry), {}
        for name, dtype in COLUMNS.items():
            path, size = f"{folder}/{name}.bin", entry["bytes"][name]
            try:
                columns[name] = map_file(path, dtype, size)
            except (FileNotFoundError, IsADirectoryError, ValueError) as error:
                problem = f"is not the file of {size} bytes that was built"
                raise ConfigError(f"{path}: {problem}: delete {folder.parent}") from error
        _check(folder, entry, folder)
        return cls(folder, first_block, entry["span_types"], **columns)

    @property
    def lengths(self) -> Int32[np.ndarray, " blocks"]:
        """How many wordpieces `[CLS] title [SEP] body [SEP]` of each block has; reads columns of both."""
        titles = (self.sources["title_token_limit"] - self.sources["title_token_start"]).astype(np.int32)
        bodies = (self.blocks["token_limit"] - self.blocks["token_start"]).astype(np.int32)
        return bodies + titles[self.blocks["source"]] + np.int32(NUM_SPECIALS)

    @property
    def sentence_lengths(self) -> Int32[np.ndarray, " sentences"]:
        """How many wordpieces each sentence has; reads a column."""
        return (self.sentences["token_limit"] - self.sentences["token_start"]).astype(np.int32)


def link(source: os.PathLike, target: os.PathLike) -> None:
    """Gives a file that nobody changes a second place: by a hard link, or on another disk by a copy."""
    known = remembered_sha256(source)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    remember(target, known)  # a link changes the file's times


def segment_hash(digests: dict[str, str], span_types: list[str]) -> str:
    """Computes the hash that identifies a segment, from the SHA-256 of each column's file."""
    lines = [f"{name} {digests[name]}" for name in COLUMNS]
    return hashlib.sha256("\n".join([*lines, *span_types]).encode()).hexdigest()


def _local(folder: epath.Path, entry: dict) -> pathlib.Path:
    """Returns the folder itself, or a local copy of one in a bucket. Raises ConfigError if the copy is damaged."""

    def download(empty: pathlib.Path) -> None:
        files = [f"{name}.bin" for name in COLUMNS]
        try:
            copy_files(files, folder, epath.Path(empty))
        except FileNotFoundError as error:
            raise ConfigError(f"{folder}: lacks a file ({error}): build {folder.parent} again") from error
        _check(empty, entry, folder)

    return copy_of(f"segments/{entry['hash']}", download) if is_remote(folder) else pathlib.Path(folder)


def _check(files: pathlib.Path, entry: dict, named: os.PathLike) -> None:
    """Raises ConfigError unless the columns in `files` are those that the entry of the segment `named` describes."""
    digests = {name: remembered_sha256(files / f"{name}.bin") for name in COLUMNS}
    if segment_hash(digests, entry["span_types"]) != entry["hash"]:
        raise ConfigError(f"{named}: differs from its checksum: build {named.parent} again")


class SegmentWriter:
    """Appends records to the column files of a new segment in an empty folder."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.counts = Counter(dict.fromkeys(DROPS, 0))  # what was left out, by reason
        self.sizes = Counter()  # rows of each column so far
        self._span_types: dict[str, int] = {}
        self._digests = {name: hashlib.sha256() for name in COLUMNS}

    def write(self, records: Iterable[CutRecord]) -> None:
        """Appends a batch of records; one without blocks leaves no trace."""
        batch: dict[str, list] = {name: [] for name in COLUMNS}
        ends = Counter(self.sizes)  # where the next row of each column goes
        for cut in records:
            if cut.blocks:
                self._add(cut, batch, ends)
        for name, dtype in COLUMNS.items():
            flat = name in ("tokens", "title_tokens")
            rows = batch[name]
            data = b"".join(rows) if dtype == np.uint8 or flat else np.array(rows, dtype).tobytes()
            self._append(name, data)
        self.sizes = ends

    def extend(self, rows: dict[str, Shaped[np.ndarray, " _"]], span_types: list[str]) -> None:
        """Appends rows of another segment, whose offsets count from 0; they are changed to count from here.

        Args:
            rows: all columns of some whole records.
            span_types: the names that `type` of the other segment's spans indexes.
        """
        ends, sources, blocks, spans = Counter(self.sizes), rows["sources"], rows["blocks"], rows["spans"]
        for table, places in ((sources, PLACES_OF_SOURCE), (blocks, PLACES_OF_BLOCK)):
            for place, column in places.items():
                table[f"{place}_start"] += ends[column]
                table[f"{place}_limit"] += ends[column]
        blocks["source"] += ends["sources"]
        rows["sentences"]["block"] += ends["blocks"]
        spans["block"] += ends["blocks"]
        found, firsts = np.unique(spans["type"], return_index=True)
        numbers = np.zeros(len(span_types), np.uint8)
        for kind in found[np.argsort(firsts)].tolist():
            numbers[kind] = self._span_types.setdefault(span_types[kind], len(self._span_types))
        spans["type"] = numbers[spans["type"]]
        for name in COLUMNS:
            self._append(name, rows[name].tobytes())
            self.sizes[name] += len(rows[name])

    def _append(self, name: str, data: bytes) -> None:
        with open(self.folder / f"{name}.bin", "ab") as file:
            file.write(data)
        self._digests[name].update(data)

    def close(self) -> dict:
        """Returns the segment's entry of the manifest, which lacks only the name."""
        digests = {name: digest.hexdigest() for name, digest in self._digests.items()}
        for name, digest in digests.items():
            remember(self.folder / f"{name}.bin", digest)
        return {
            "hash": segment_hash(digests, list(self._span_types)),
            "num_sources": self.sizes["sources"],
            "num_blocks": self.sizes["blocks"],
            "num_sentences": self.sizes["sentences"],
            "num_spans": self.sizes["spans"],
            "counts": dict(self.counts),
            "span_types": list(self._span_types),
            "bytes": {name: os.path.getsize(self.folder / f"{name}.bin") for name in COLUMNS},
        }

    def _add(self, cut: CutRecord, batch: dict[str, list], ends: Counter) -> None:
        def append(name: str, value: bytes, width: int = 1) -> tuple[int, int]:
            start = ends[name]
            ends[name] += len(value) // width
            batch[name].append(value)
            return start, ends[name]

        def extend(name: str, rows: list[tuple]) -> tuple[int, int]:
            start = ends[name]
            ends[name] += len(rows)
            batch[name] += rows
            return start, ends[name]

        source, first_block = ends["sources"], ends["blocks"]
        title = append("titles", cut.record.title.encode())
        title_tokens = append("title_tokens", np.array(cut.title_tokens, "<u2").tobytes(), 2)
        source_id = append("ids", cut.record.id.encode())
        for i, block in enumerate(cut.blocks, first_block):
            text = append("text", block.text.encode())
            tokens = append("tokens", np.array(block.tokens, "<u2").tobytes(), 2)
            sentences = extend("sentences", [(i, *row) for row in block.sentences])
            spans = extend(
                "spans",
                [
                    (i, *row[:5], self._span_types.setdefault(row[5], len(self._span_types)), row[6])
                    for row in block.spans
                ],
            )
            extend("blocks", [(source, *text, *tokens, *sentences, *spans, block.hash)])
        extend("sources", [(*title, *title_tokens, *source_id, first_block, ends["blocks"], hash64(cut.record.id))])
