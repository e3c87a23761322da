"""Shards: each is a part of the source as a finished segment of the corpus. `finish` makes the corpus of all.

A shard is written under another name, with `entry.json`, and renamed: it is there whole or not at all, and is not made
twice. Its bytes depend on the source and the settings alone; times go into the manifest.
"""

import contextlib
import errno
import functools
import itertools
import json
import pathlib
import shutil
import tempfile
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from etils import epath
from tokenizers import Tokenizer

from realm_jax.buckets import is_remote, upload
from realm_jax.config import ConfigError
from realm_jax.data import manifest as manifest_lib
from realm_jax.data import salient
from realm_jax.data.blocks import Tagger, cut
from realm_jax.data.build.source import Source
from realm_jax.data.build.source_parts import Part
from realm_jax.data.segment import SOURCE, SegmentWriter
from realm_jax.data.sources.unpacked import DAMAGED
from realm_jax.workdir import read_json, write_json, write_text

ENTRY = "entry.json"
BATCH_RECORDS = 256
TWICE = "id there twice"


@dataclass(frozen=True)
class Job:
    """What a worker must know besides its part."""

    source: Source
    out: str
    tokenizer: str
    """The content of a tokenizer.json."""
    block_len_tokens: int
    tagger: str
    as_given: bool = False
    """Whether each record is a block as it came."""

    @property
    def work(self) -> epath.Path:
        """The folder of the plan, of unpacked files and of reports; deleted at the end."""
        return epath.Path(self.out) / "work"

    def shard(self, number: int) -> epath.Path:
        """The folder of a shard."""
        return epath.Path(self.out) / f"segment-{number:05}"

    def is_done(self, number: int) -> bool:
        """Whether a shard is finished."""
        return (self.shard(number) / ENTRY).exists()


def build_shard(numbered: tuple[int, Part], job: Job) -> int:
    """Makes a shard unless it is there; returns its number.

    An error that a user can correct is left in `work/errors/` instead of raised: the other shards go on.
    """
    number, part = numbered
    error_file = job.work / "errors" / f"{number:05}"
    if job.is_done(number):
        return number
    error_file.unlink(missing_ok=True)
    try:
        _build(number, part, job)
    except (ConfigError, *DAMAGED) as error:
        is_full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
        what = f"{job.out}: no disk space left: free some and run the same command again" if is_full else str(error)
        with contextlib.suppress(OSError):  # of a full disk
            error_file.parent.mkdir(parents=True, exist_ok=True)
            write_text(error_file, what)
    return number


def errors(job: Job, num_shards: int) -> list[str]:
    """Lists what went wrong in each shard that is missing."""
    files = [job.work / "errors" / f"{number:05}" for number in range(num_shards) if not job.is_done(number)]
    return [
        file.read_text(encoding="utf-8") if file.exists() else f"{job.out}: no reason was left; is the disk full?"
        for file in files
    ]


def build_records(records: Iterator, writer: SegmentWriter, job: Job) -> Counter:
    """Cuts and writes records; returns the seconds of each stage."""
    tokenizer, tag = _tools(job.tokenizer, job.tagger)
    seconds: Counter = Counter()

    def timed_tag(sentences: list[str], title: str) -> list:
        started = time.perf_counter()
        spans = tag(sentences, title)
        seconds["salient spans"] += time.perf_counter() - started
        return spans

    while True:
        started = time.perf_counter()
        batch = list(itertools.islice(records, BATCH_RECORDS))
        read = time.perf_counter()
        seconds["read and parse"] += read - started
        if not batch:
            seconds["sentences and wordpieces"] -= seconds["salient spans"]
            return seconds
        done = list(
            cut(
                batch,
                tokenizer=tokenizer,
                tag=timed_tag,
                block_len_tokens=job.block_len_tokens,
                counts=writer.counts,
                whole=job.as_given,
                long_titles="drop",
            )
        )
        cut_at = time.perf_counter()
        seconds["sentences and wordpieces"] += cut_at - read
        writer.write(done)
        seconds["write"] += time.perf_counter() - cut_at


def finish(job: Job, identity: dict, fingerprint: str, num_shards: int, seconds: float) -> dict:
    """Writes the manifest of all shards and returns it. A record whose id an earlier one has becomes a tombstone.

    Raises:
        ConfigError: no shard holds any text.
    """
    tokenizer, _ = _tools(job.tokenizer, "rules")
    description = {
        "source": job.source.spec,
        "licence": "that of the source",
        "fingerprint": fingerprint,
        "tagger": job.tagger,
        "blocks": manifest_lib.AS_GIVEN if job.as_given else manifest_lib.CUT,
    }
    manifest = manifest_lib.first_manifest(description, tokenizer, job.block_len_tokens)
    counts, on_cutting, stages = Counter(), Counter(), Counter()
    for number in range(num_shards):
        entry = read_json(job.shard(number) / ENTRY)
        manifest["segments"].append({"name": job.shard(number).name, **entry["segment"]})
        counts.update(entry["counts"])
        on_cutting.update(entry["segment"]["counts"])
        report = job.work / "reports" / f"{number:05}.json"
        stages.update(read_json(report) if report.exists() else {})
    if not sum(segment["num_blocks"] for segment in manifest["segments"]):
        told = {reason: count for reason, count in (counts + on_cutting).items() if count}
        raise ConfigError(f"{job.source.spec}: holds no text ({told}): pass another --source or --format")
    manifest["tombstones"], twice = _twice(job, manifest["segments"])
    counts[TWICE] += twice
    manifest["build"] = {
        "plan": identity,
        "format": job.source.format,
        "counts": {reason: counts[reason] for reason in sorted(counts) if counts[reason]},
        "seconds": round(seconds, 1),
        "worker_seconds": {stage: round(stages[stage], 1) for stage in sorted(stages)},
    }
    write_text(epath.Path(job.out) / "tokenizer.json", job.tokenizer)
    write_json(epath.Path(job.out) / manifest_lib.MANIFEST, manifest)
    job.work.rmtree(missing_ok=True)
    return manifest


def _build(number: int, part: Part, job: Job) -> None:
    is_local = not is_remote(job.out)
    home = pathlib.Path(job.work) / "partial" if is_local else pathlib.Path(tempfile.gettempdir())
    folder = home / f"{job.shard(number).name}-{uuid.uuid4().hex[:8]}"
    folder.mkdir(parents=True)
    try:
        writer, counts = SegmentWriter(folder), Counter()
        seconds = build_records(job.source.open().records(part, counts), writer, job)
        if not writer.sizes["blocks"]:
            writer.write([])  # the empty columns
        entry = {"segment": writer.close(), "counts": {k: counts[k] for k in sorted(counts) if counts[k]}}
        (job.work / "reports").mkdir(parents=True, exist_ok=True)
        write_json(job.work / "reports" / f"{number:05}.json", dict(seconds))
        (folder / ENTRY).write_text(json.dumps(entry, indent=1, sort_keys=True), encoding="utf-8")
        _publish(folder, job.shard(number), is_local)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _publish(folder: pathlib.Path, shard: epath.Path, is_local: bool) -> None:
    """Another worker may have been faster: its shard has the same bytes, and stays."""
    if is_local:
        if not shard.exists():
            try:
                folder.rename(shard)
            except OSError:
                if not (shard / ENTRY).exists():
                    raise
        return
    upload(folder, shard, last=ENTRY)


def _twice(job: Job, segments: list[dict]) -> tuple[list[int], int]:
    """Finds (ordinals of the blocks of records whose id came before, how many records these are)."""
    hashes, blocks, first = [], [], 0
    for segment in segments:
        folder = epath.Path(job.out) / segment["name"]
        sources = np.frombuffer((folder / "sources.bin").read_bytes(), SOURCE)
        hashes.append(sources["hash"])
        blocks.append(np.stack([sources["block_start"], sources["block_limit"]], 1).astype(np.int64) + first)
        first += segment["num_blocks"]
    hashes, blocks = np.concatenate(hashes), np.concatenate(blocks)
    _, firsts = np.unique(hashes, return_index=True)
    again = np.ones(len(hashes), bool)
    again[firsts] = False
    ordinals = [i for start, limit in blocks[again] for i in range(start, limit)]
    return ordinals, int(again.sum())


@functools.lru_cache(maxsize=2)
def _tools(tokenizer: str, tagger: str) -> tuple[Tokenizer, Tagger]:
    loaded = Tokenizer.from_str(tokenizer)
    loaded.no_truncation()
    loaded.no_padding()
    return loaded, salient.make_tagger(tagger)
