"""Compaction: a corpus gets fewer segments. Small neighbours are joined, deleted blocks dropped, the order stays.

Without deleted blocks every ordinal stays what it was. With them the blocks behind move up, so that whatever counts
blocks by ordinals (embeddings, indexes) has to follow; `realm compact` sees to that. Segments that stay as they are
keep their folders.
"""

import shutil
from collections.abc import Iterator

import numpy as np

from realm_jax.config import ConfigError
from realm_jax.data.corpus import Corpus
from realm_jax.data.corpus_writer import next_segment
from realm_jax.data.new_folder import new_folder
from realm_jax.data.segment import PLACES_OF_BLOCK, PLACES_OF_SOURCE, Segment, SegmentWriter

CHUNK_SOURCES = 16_384  # records that are copied at once
COMPACTED = "compacted"


def groups(corpus: Corpus, segment_bytes: int) -> list[list[int]]:
    """Groups the segments that become one: neighbours that hold at most `segment_bytes` of text together."""
    found: list[list[int]] = []
    room = 0
    for number, entry in enumerate(corpus.manifest["segments"]):
        size = entry["bytes"]["text"]
        if found and size <= room:
            found[-1].append(number)
            room -= size
        else:
            found.append([number])
            room = segment_bytes - size
    return found


def compact(corpus: Corpus, segment_bytes: int) -> dict | None:
    """Writes the joined segments beside the old ones, which stay; nobody knows of them before the manifest is changed.

    Returns:
        The manifest of the compacted corpus, or None if there is nothing to do.

    Raises:
        ConfigError: every block is deleted, or the disk is full.
    """
    live, old = corpus.live, corpus.manifest["segments"]
    if not live.any():
        raise ConfigError(f"{corpus.folder}: all its blocks are deleted: add a document first")
    manifest = corpus.manifest | {"segments": list(old), "tombstones": []}
    entries, made = [], False
    for group in groups(corpus, segment_bytes):
        segments = [corpus.segments[number] for number in group]
        alive = [live[segment.first_block :][: len(segment.blocks)] for segment in segments]
        if len(group) == 1 and len(alive[0]) and alive[0].all():
            entries.append(old[group[0]])
            continue
        made = True
        if any(of_segment.any() for of_segment in alive):
            name = next_segment(manifest)
            counted = [old[number]["counts"] for number in group]
            entry = {"name": name, **_join(corpus, name, segments, alive, counted)}
            manifest["segments"].append(entry)  # which takes the name
            entries.append(entry)
    before = hashes_as_built(corpus.manifest)
    manifest |= {"segments": entries, COMPACTED: {"from": before, "segments": len(entries)}}
    return manifest if made else None


def hashes_as_built(manifest: dict) -> list[str]:
    """Lists the hashes of the segments that a corpus would have if it had never been compacted."""
    compacted = manifest.get(COMPACTED, {"from": [], "segments": 0})
    return [*compacted["from"], *(entry["hash"] for entry in manifest["segments"][compacted["segments"] :])]


def _join(corpus: Corpus, name: str, segments: list[Segment], alive: list[np.ndarray], counted: list[dict]) -> dict:
    """Writes a segment; returns its entry of the manifest, without the name."""
    shutil.rmtree(corpus.folder / name, ignore_errors=True)  # left by a call that was killed
    with new_folder(corpus.folder / name) as partial:
        writer = SegmentWriter(partial)
        for counts in counted:
            writer.counts.update(counts)
        for segment, of_segment in zip(segments, alive, strict=True):
            for rows in _kept(segment, of_segment):
                writer.extend(rows, segment.span_types)
        return writer.close()


def _kept(segment: Segment, live: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
    """Yields the columns of the segment's live blocks, some records at a time, with offsets from 0."""
    for start in range(0, len(segment.sources), CHUNK_SOURCES):
        sources = segment.sources[start : start + CHUNK_SOURCES]
        first, limit = int(sources["block_start"][0]), int(sources["block_limit"][-1])
        of_chunk = first + np.flatnonzero(live[first:limit])
        if not len(of_chunk):
            continue
        blocks = segment.blocks[of_chunk]
        used, owners = np.unique(blocks["source"], return_inverse=True)
        rows = {"sources": segment.sources[used], "blocks": blocks}
        for place, column in PLACES_OF_SOURCE.items():
            if column != "blocks":
                rows[column] = _gather(getattr(segment, column), rows["sources"], place)
        for place, column in PLACES_OF_BLOCK.items():
            rows[column] = _gather(getattr(segment, column), blocks, place)
        blocks["source"] = owners
        rows["sources"]["block_start"] = np.searchsorted(owners, np.arange(len(used)))
        rows["sources"]["block_limit"] = np.searchsorted(owners, np.arange(len(used)), side="right")
        for column in ("sentences", "spans"):
            rows[column]["block"] = np.searchsorted(of_chunk, rows[column]["block"])
        yield rows


def _gather(column: np.ndarray, table: np.ndarray, place: str) -> np.ndarray:
    """Copies the pieces of a column that the rows of a table point to; the rows then point into the copy."""
    starts, limits = table[f"{place}_start"].astype(np.int64), table[f"{place}_limit"].astype(np.int64)
    ends = np.cumsum(limits - starts)
    table[f"{place}_start"], table[f"{place}_limit"] = ends - (limits - starts), ends
    breaks = np.flatnonzero(starts[1:] != limits[:-1])  # behind these rows, something is left out
    firsts, lasts = starts[np.r_[0, breaks + 1]], limits[np.r_[breaks, len(limits) - 1]]
    return np.concatenate([column[a:b] for a, b in zip(firsts.tolist(), lasts.tolist(), strict=True)])
