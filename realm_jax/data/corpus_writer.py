"""Writes a corpus: a new one, a further segment of records, or tombstones for blocks that are deleted.

Whatever happens in between, a corpus on disk is as it was or as it is to be: its manifest is written last.
"""

import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from etils import epath
from tokenizers import Tokenizer

from realm_jax.config import ConfigError
from realm_jax.data.blocks import Tagger, cut, hash64
from realm_jax.data.corpus import Corpus, plain_tokenizer
from realm_jax.data.manifest import AS_GIVEN, first_manifest, write_manifest
from realm_jax.data.new_folder import is_used, new_folder
from realm_jax.data.segment import SegmentWriter
from realm_jax.data.sources.checked import has_letters
from realm_jax.records import Record

BATCH_RECORDS = 512  # records tokenised together

Progress = Callable[[int, int | None], None]
"""Is told (records done, records in all or None)."""


def build(
    records: Iterable[Record],
    folder: str | os.PathLike,
    *,
    tokenizer: Tokenizer,
    tag: Tagger,
    block_len_tokens: int,
    description: dict,
    total: int | None = None,
    progress: Progress | None = None,
) -> Corpus:
    """Cuts records into blocks and writes them as a new corpus of one segment.

    Args:
        folder: must not exist or be empty; it appears only when it is complete.
        tokenizer: a tokenizers.Tokenizer with BERT's special tokens and at most 65,536 wordpieces.
        description: at least `source` (a name), `fingerprint` (of its content) and `tagger`; kept in the manifest.
        total: number of records if known, for `progress(done, total)`.

    Raises:
        ConfigError: on bad records, a folder in use or a full disk; nothing is left behind.
    """
    folder = epath.Path(folder)
    if is_used(folder):
        raise ConfigError(f"{folder}: is not an empty folder: delete it or pass another --workdir")
    with new_folder(folder) as partial:
        create(partial, tokenizer=tokenizer, block_len_tokens=block_len_tokens, description=description)
        append(records, partial, tokenizer=tokenizer, tag=tag, total=total, progress=progress)
    return Corpus.open(folder)


def create(folder: str | os.PathLike, *, tokenizer: Tokenizer, block_len_tokens: int, description: dict) -> Corpus:
    """Makes a corpus without segments, for `append`; the arguments are those of `build`."""
    folder = epath.Path(folder)
    manifest = first_manifest(description, plain_tokenizer(tokenizer), block_len_tokens)
    folder.mkdir(parents=True, exist_ok=True)
    write_manifest(folder, manifest)
    return Corpus.open(folder)


def append(
    records: Iterable[Record],
    folder: str | os.PathLike,
    *,
    tokenizer: Tokenizer,
    tag: Tagger,
    total: int | None = None,
    progress: Progress | None = None,
    whole_records: bool = False,
    deleted: Iterable[int] = (),
    change: str = "",
) -> Corpus:
    """Adds a segment of further records to a corpus; arguments and ConfigErrors are those of `build`.

    Args:
        whole_records: each record is a block already: it is not cut, and a record without text is an error. A corpus
            whose manifest says so takes records as blocks in any case; there, one without text is only counted.
        deleted: ordinals of blocks to delete, as `delete` does. Both happen at once or not at all, so that a record
            can be replaced under its id.
        change: as in `delete`.
    """
    corpus = Corpus.open(folder)
    tokenizer = plain_tokenizer(tokenizer)
    corpus.check_against(corpus.manifest, tokenizer=tokenizer, block_len_tokens=corpus.block_len_tokens)
    live = _without(corpus, deleted)
    known = _record_hashes(corpus, live)
    name = next_segment(corpus.manifest)
    (corpus.folder / name).rmtree(missing_ok=True)  # left by an append that was killed before it wrote the manifest
    done = 0
    with new_folder(corpus.folder / name) as partial:
        writer = SegmentWriter(partial)
        as_given = corpus.manifest.get("blocks") == AS_GIVEN
        records = _with_text(records, writer.counts) if as_given else records
        whole = whole_records or as_given
        for batch in _batches(_unique(records, known)):
            limits = {"block_len_tokens": corpus.block_len_tokens, "counts": writer.counts, "whole": whole}
            writer.write(cut(batch, tokenizer=tokenizer, tag=tag, **limits))
            done += len(batch)
            if progress is not None:
                progress(done, total)
        if not writer.sizes["blocks"]:
            source = "the new records" if corpus.segments else corpus.manifest["description"]["source"]
            raise ConfigError(f"{source}: holds no text: pass another --corpus=FILE_OR_FOLDER")
        entry = {"name": name, **writer.close()}
    changes = {"segments": [*corpus.manifest["segments"], entry]}
    changes |= {"tombstones": np.flatnonzero(~live).tolist(), "latest_change": change}
    write_manifest(corpus.folder, corpus.manifest | changes)
    return Corpus.open(folder)


def next_segment(manifest: dict) -> str:
    """Finds a name that no segment has."""
    return f"segment-{1 + max((int(entry['name'].split('-')[1]) for entry in manifest['segments']), default=-1):05}"


def delete(indices: Iterable[int], folder: str | os.PathLike, *, change: str = "") -> Corpus:
    """Makes blocks tombstones: they keep their ordinals, `is_live` turns false, and their record's id is free again.

    Args:
        change: becomes `latest_change`, for a caller who has to know later whether this was done.
    """
    corpus = Corpus.open(folder)
    tombstones = np.flatnonzero(~_without(corpus, indices)).tolist()
    write_manifest(corpus.folder, corpus.manifest | {"tombstones": tombstones, "latest_change": change})
    return Corpus.open(folder)


def _without(corpus: Corpus, deleted: Iterable[int]) -> np.ndarray:
    """bool [blocks]: those that stay live."""
    live = corpus.live
    live[list(deleted)] = False
    return live


def _record_hashes(corpus: Corpus, live: np.ndarray) -> np.ndarray:
    """uint64, sorted: hashes of the ids of records with a live block."""
    hashes = [np.empty(0, np.uint64)]
    for segment in corpus.segments:
        records = segment.blocks["source"][live[segment.first_block :][: len(segment.blocks)]]
        hashes.append(segment.sources["hash"][np.unique(records)])
    return np.sort(np.concatenate(hashes))


def _batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    iterator = iter(records)
    while batch := list(itertools.islice(iterator, BATCH_RECORDS)):
        yield batch


def _unique(records: Iterable[Record], known: np.ndarray) -> Iterator[Record]:
    """Yields the records. Raises ConfigError at an id that came before, or whose hash is in `known` (sorted)."""
    seen = set()
    for record in records:
        key = hash64(record.id)
        at = np.searchsorted(known, np.uint64(key))
        if at < len(known) and known[at] == key:
            raise ConfigError(f"{record.where}: id {record.id!r} is in the corpus already: delete that record first")
        if key in seen:
            raise ConfigError(f"{record.where or 'corpus'}: id {record.id!r} is there twice: make ids unique")
        seen.add(key)
        yield record


def _with_text(records: Iterable[Record], counts: Counter) -> Iterator[Record]:
    for record in records:
        if has_letters(record.text):
            yield record
        else:
            counts["empty_records"] += 1
