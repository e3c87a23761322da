"""The corpus: an ordered list of immutable segments of blocks, read by memory map.

    manifest.json      what the corpus was made from, its segments with their hashes, and tombstones; written last
    segment-00000/     one flat file per column, as `segment` says

This is the only reader; `corpus_writer` writes. Texts are cut in `blocks`; where they come from is known to
`sources`. A block's ordinal over all segments is its id and the row of its embedding; segments are only ever appended,
and a deleted block keeps its ordinal and becomes a tombstone. Reading takes a few bytes of anonymous memory per block.
"""

import json
import os
from collections.abc import Iterable, Iterator
from typing import SupportsIndex

import numpy as np
from etils import epath
from jaxtyping import Bool, Int, Int32, Integer, Shaped, UInt16, UInt64
from tokenizers import Tokenizer

from realm_jax.batches import Tokens
from realm_jax.config import ConfigError
from realm_jax.data.blocks import hash64
from realm_jax.data.manifest import CUT, identity, read_manifest, sha256
from realm_jax.data.segment import Segment
from realm_jax.records import Block


class Corpus:
    """A corpus on disk or in a bucket, opened for reading. `indices` are block ordinals over all segments."""

    def __init__(self, folder: epath.Path, manifest: dict, segments: list[Segment]):
        self.folder = folder
        self.manifest = manifest
        self.segments = segments
        self.block_len_tokens: int = manifest["block_len_tokens"]
        self.segment_hashes: list[str] = [entry["hash"] for entry in manifest["segments"]]
        self.hash: str = sha256(json.dumps([self.segment_hashes, manifest["tombstones"]]))
        self.latest_change: str = manifest.get("latest_change", "")
        """The `change` that `corpus_writer.append` or `delete` was given."""
        self.num_blocks: int = sum(entry["num_blocks"] for entry in manifest["segments"])
        self._first_blocks = np.array([segment.first_block for segment in segments])
        self.tombstones = np.array(manifest["tombstones"], np.int64)
        """The ordinals of deleted blocks, ascending."""
        self._lengths: np.ndarray | None = None

    @classmethod
    def open(cls, folder: str | os.PathLike) -> "Corpus":
        """Opens a corpus. Raises ConfigError if there is none or its files do not fit its manifest."""
        folder = epath.Path(folder)
        return cls.of(folder, read_manifest(folder))

    @classmethod
    def of(cls, folder: epath.Path, manifest: dict) -> "Corpus":
        """Opens a corpus by a manifest that is not in its place yet; raises ConfigError as `open` does."""
        segments: list[Segment] = []
        first_block = 0
        for entry in manifest["segments"]:
            segments.append(Segment.open(folder / entry["name"], entry, first_block))
            first_block += entry["num_blocks"]
        return cls(folder, manifest, segments)

    def up_to(self, segments: int) -> "Corpus":
        """The corpus as it was when it had its first `segments` segments, without what is deleted now."""
        if segments == len(self.segments):
            return self
        entries = self.manifest["segments"][:segments]
        limit = sum(entry["num_blocks"] for entry in entries)
        tombstones = [block for block in self.manifest["tombstones"] if block < limit]
        return Corpus.of(self.folder, {**self.manifest, "segments": entries, "tombstones": tombstones})

    def __reduce__(self) -> tuple:
        return Corpus.open, (self.folder,)  # a worker process maps the files itself

    def check_against(self, description: dict, *, tokenizer: Tokenizer, block_len_tokens: int) -> None:
        """Raises ConfigError if this corpus was built from something else than the arguments of `build` say."""
        wanted = identity(description, plain_tokenizer(tokenizer), block_len_tokens)
        found = {"blocks": CUT} | self.manifest
        for key, value in wanted.items():
            if key == "fingerprint" and found[key] != value:
                raise ConfigError(
                    f"{self.folder}: was built from {description['source']} when it held something else: put "
                    "that back, pass another --workdir or delete this folder"
                )
            if found[key] != value:
                raise ConfigError(
                    f"{self.folder}: was built with {key} {found[key]!r}, now it is {value!r}: "
                    "pass another --workdir or delete this folder"
                )

    @property
    def lengths(self) -> Int32[np.ndarray, " blocks"]:
        """How many wordpieces `[CLS] title [SEP] body [SEP]` of each block has."""
        if self._lengths is None:
            self._lengths = np.concatenate([segment.lengths for segment in self.segments])
        return self._lengths

    @property
    def record_of_block(self) -> Int[np.ndarray, " blocks"]:
        """Ordinal over all segments of the record (article, passage) that each block was cut from."""
        firsts = np.cumsum([0, *(len(segment.sources) for segment in self.segments[:-1])])
        return np.concatenate([s.blocks["source"] + first for s, first in zip(self.segments, firsts, strict=True)])

    def record_ids(self) -> list[str]:
        """Lists the ids of all records, by ordinal."""
        return [
            segment.ids[int(source["id_start"]) : int(source["id_limit"])].tobytes().decode()
            for segment in self.segments
            for source in segment.sources
        ]

    def block_hashes(self, indices: Integer[np.ndarray, "*indices"]) -> UInt64[np.ndarray, "*indices"]:
        """Looks up the content hashes of blocks."""
        indices = np.asarray(indices)
        hashes = np.zeros(indices.size, np.uint64)
        for segment, rows, local in self._by_segment(indices.ravel()):
            hashes[rows] = segment.blocks["hash"][local]
        return hashes.reshape(indices.shape)

    @property
    def live(self) -> Bool[np.ndarray, " blocks"]:
        """False for a deleted block; a new array each time, which the caller may change."""
        live = np.ones(self.num_blocks, bool)
        live[self.tombstones] = False
        return live

    def is_live(self, indices: Integer[np.ndarray, "*indices"]) -> Bool[np.ndarray, "*indices"]:
        """Whether each block is there: false for a deleted one."""
        return ~np.isin(indices, self.tombstones)

    def blocks_of(self, record_ids: Iterable[str]) -> dict[str, range]:
        """Maps record ids to the ordinals of their blocks; an id that no live record has is left out."""
        wanted = {hash64(record_id): record_id for record_id in record_ids}
        keys, found = np.array(list(wanted), np.uint64), {}
        for segment in self.segments:
            for source in segment.sources[np.isin(segment.sources["hash"], keys)]:
                first = segment.first_block
                blocks = range(first + int(source["block_start"]), first + int(source["block_limit"]))
                if self.is_live(np.asarray(blocks)).any():
                    found[wanted[int(source["hash"])]] = blocks
        return found

    def heldout(self, fraction: float) -> Bool[np.ndarray, " blocks"]:
        """Marks the blocks of a share of the records, which are chosen by the hash of their ids."""
        limit = np.uint64(fraction * 2.0**64)
        return np.concatenate([(s.sources["hash"] < limit)[s.blocks["source"]] for s in self.segments])

    def embedder_tokens(self, indices: Integer[np.ndarray, "*indices"], length: int) -> Tokens:
        """`[CLS] title [SEP] body [SEP]`, [*indices.shape, length]; index -1 is the empty block `[CLS] [SEP] [SEP]`.

        The body (then the title) is cut where `length` is shorter than the block.
        """
        indices = np.asarray(indices, np.int64)
        cls_id, sep_id, pad_id = self.manifest["special_ids"]
        ids = np.full((indices.size, length), pad_id, np.int32)
        limits = np.full((indices.size, 2), (2, 3))  # one past the first and past the second [SEP]
        for segment, rows, local in self._by_segment(indices.ravel()):
            block = segment.blocks[local]
            source = segment.sources[block["source"]]
            title_len = (source["title_token_limit"] - source["title_token_start"]).astype(np.int64)
            title_limit = np.minimum(2 + title_len, length - 1)
            body_len = (block["token_limit"] - block["token_start"]).astype(np.int64)
            limits[rows] = np.stack([title_limit, np.minimum(title_limit + body_len + 1, length)], axis=1)
            out = ids[rows]
            begin = source["title_token_start"]
            _copy_ragged(out, segment.title_tokens, begin=begin, start=np.ones_like(title_limit), limit=title_limit - 1)
            begin = block["token_start"]
            _copy_ragged(out, segment.tokens, begin=begin, start=title_limit, limit=limits[rows, 1] - 1)
            ids[rows] = out
        ids[:, 0] = cls_id
        np.put_along_axis(ids, limits - 1, sep_id, axis=1)
        at = np.arange(length)
        mask = at < limits[:, 1:]
        types = (mask & (at >= limits[:, :1])).astype(np.int32)
        shape = (*indices.shape, length)
        return Tokens(ids.reshape(shape), mask.reshape(shape), types.reshape(shape))

    def body(self, index: SupportsIndex) -> UInt16[np.ndarray, " tokens"]:
        """Wordpieces of a block's body."""
        segment, block = self._row(index)
        return segment.tokens[int(block["token_start"]) : int(block["token_limit"])]

    def title(self, index: SupportsIndex) -> UInt16[np.ndarray, " tokens"]:
        """Wordpieces of a block's title."""
        segment, block = self._row(index)
        source = segment.sources[block["source"]]
        return segment.title_tokens[int(source["title_token_start"]) : int(source["title_token_limit"])]

    def sentences(self, index: SupportsIndex) -> Shaped[np.ndarray, " sentences"]:
        """SENTENCE rows of a block, in order."""
        segment, block = self._row(index)
        return segment.sentences[int(block["sentence_start"]) : int(block["sentence_limit"])]

    def spans(self, index: SupportsIndex) -> Shaped[np.ndarray, " spans"]:
        """SPAN rows of a block, by sentence and start."""
        segment, block = self._row(index)
        return segment.spans[int(block["span_start"]) : int(block["span_limit"])]

    def block(self, index: SupportsIndex) -> Block:
        """A block's text, title and source id, for people."""
        segment, block = self._row(index)
        source = segment.sources[block["source"]]
        source_id = _text(segment.ids, source["id_start"], source["id_limit"])
        title = _text(segment.titles, source["title_start"], source["title_limit"])
        return Block(int(index), source_id, title, _text(segment.text, block["text_start"], block["text_limit"]))

    def _row(self, index: SupportsIndex) -> tuple[Segment, np.void]:
        if not 0 <= index < self.num_blocks:
            raise IndexError(f"block {index} of a corpus of {self.num_blocks}")
        segment = self.segments[int(np.searchsorted(self._first_blocks, index, side="right")) - 1]
        return segment, segment.blocks[int(index) - segment.first_block]

    def _by_segment(self, indices: np.ndarray) -> Iterator[tuple[Segment, np.ndarray, np.ndarray]]:
        """(segment, positions in `indices`, ordinals within the segment); negative indices belong to none."""
        which = np.searchsorted(self._first_blocks, indices, side="right") - 1
        for i in np.unique(which[which >= 0]):
            rows = np.flatnonzero(which == i)
            yield self.segments[i], rows, indices[rows] - self.segments[i].first_block


def plain_tokenizer(tokenizer: Tokenizer) -> Tokenizer:
    """Copies a tokenizer, without truncation and padding. Raises ConfigError if its ids do not fit the store."""
    size = tokenizer.get_vocab_size()
    if size > 1 << 16:
        raise ConfigError(f"the tokenizer has {size} wordpieces, the corpus stores uint16: use one of at most 65536")
    tokenizer = type(tokenizer).from_str(tokenizer.to_str())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _copy_ragged(
    out: np.ndarray, tokens: np.ndarray, *, begin: np.ndarray, start: np.ndarray, limit: np.ndarray
) -> None:
    """out[i, start[i]:limit[i]] = tokens[begin[i]:], for all rows at once."""
    at = np.arange(out.shape[1])
    inside = (at >= start[:, None]) & (at < limit[:, None])
    from_token = begin.astype(np.int64) - start
    out[inside] = tokens[(from_token[:, None] + at)[inside]]


def _text(column: np.ndarray, start: np.uint64, limit: np.uint64) -> str:
    return column[int(start) : int(limit)].tobytes().decode()
