"""A run's knowledge corpus and its index versions, compacted together: the work of `realm compact`.

New segments and new versions are written beside the old ones, under names that nobody reads; one redo log then puts
all of them in place.
"""

import contextlib
import dataclasses
import os
from collections.abc import Iterator

import numpy as np

from realm_jax import heartbeat, redo
from realm_jax.buckets import is_remote
from realm_jax.config import Config, ConfigError
from realm_jax.data import compaction
from realm_jax.data.corpus import Corpus
from realm_jax.data.manifest import MANIFEST
from realm_jax.data.prepare import open_prepared
from realm_jax.data.segment import link
from realm_jax.index.claims import MANIFEST as VERSION_MANIFEST
from realm_jax.index.claims import holders
from realm_jax.index.index_builder import extend_version
from realm_jax.index.publish import COPY_ROWS
from realm_jax.index.search import build_search_files
from realm_jax.index.store import NEXT, Draft, IndexStore
from realm_jax.index.version import TOWER, Version
from realm_jax.lock import only_one
from realm_jax.workdir import Workdir, write_json

NEXT_CORPUS = "manifest.next"


def compact_knowledge(workdir: Workdir, segment_bytes: int) -> tuple[Corpus, Corpus]:
    """Compacts; does nothing where there is nothing to join or to drop.

    Args:
        segment_bytes: text up to which neighbouring segments are joined.

    Returns:
        the corpus as it was, and as it is.

    Raises:
        ConfigError: the run is in a bucket, something works on it, a phase is not finished, or its index is damaged.
    """
    if is_remote(workdir.path):
        raise ConfigError(f"{workdir.path}: a bucket has no locks: copy the run to a disk, compact it, copy it back")
    with _alone(workdir):
        before = open_prepared(workdir).knowledge
        stores = [store for store in map(IndexStore, workdir.index_folders) if store.latest() is not None]
        _check_idle(workdir, stores)
        for store in stores:
            store.tidy()  # what a killed call left
        newest = [_current(workdir.config, store, before) for store in stores]
        manifest = compaction.compact(before, segment_bytes)
        if manifest is None:
            return before, before
        with contextlib.ExitStack() as drafts:
            made = [
                _moved(workdir.config, drafts.enter_context(store.begin(version.step)), version, before, manifest)
                for store, version in zip(stores, newest, strict=True)
            ]
            _put_in_place(workdir, before, manifest, stores, made)
        for store, version in zip(stores, made, strict=True):
            store.record_published(version)
    return before, Corpus.open(before.folder)


@contextlib.contextmanager
def _alone(workdir: Workdir) -> Iterator[None]:
    """Keeps trainers and updates out."""
    files = [workdir.trainer_lock, workdir.update_lock, *sorted(workdir.path.glob("finetune/*/trainer.lock"))]
    with contextlib.ExitStack() as held:
        for file in files:
            held.enter_context(only_one(file, f"{workdir.path} is being worked on"))
        yield


def _check_idle(workdir: Workdir, stores: list[IndexStore]) -> None:
    """Raises ConfigError if a builder or a reader is at work, or a trainer will go on: they count the old blocks."""
    for store in stores:
        builders = [beat for beat in heartbeat.read_all(store.folder) if beat["state"] == "runs"]
        busy = builders or [pin for version in store.versions() for pin in holders(version.folder)]
        if busy:
            who = f"process {busy[0]['pid']} on {busy[0]['host']}"
            raise ConfigError(f"{store.folder} is in use by {who}: end it, then run this again")
    for folder in (workdir.phase("ict"), workdir.phase("pretrain"), *sorted(workdir.path.glob("finetune/*"))):
        if (folder / "checkpoints").exists() and not (folder / "DONE").exists():
            raise ConfigError(f"{folder} is not finished, and its checkpoints count blocks: finish or delete it first")


def _current(config: Config, store: IndexStore, corpus: Corpus) -> Version:
    """The store's newest version, with all blocks of the corpus."""
    version = store.latest()
    return version if version.is_current(corpus) else extend_version(config, corpus, store, version)


def _moved(config: Config, draft: Draft, version: Version, before: Corpus, manifest: dict) -> Version:
    """The version with the rows of the live blocks alone, written but not yet published."""
    old, folder, found = version.load_embeddings(), version.local_folder(), version.manifest
    rows = np.flatnonzero(before.live)
    if len(rows) == len(old):
        for name in found["files"]:
            (draft.folder / name).parent.mkdir(parents=True, exist_ok=True)
            link(folder / name, draft.folder / name)
        search_info = found["search_info"]
    else:
        index = dataclasses.replace(config.index, search=found["search"], dtype=found["dtype"])
        embeddings = draft.embeddings(len(rows), old.shape[1], index.dtype)
        for start in range(0, len(rows), COPY_ROWS):
            part = rows[start : start + COPY_ROWS]
            embeddings[start : start + len(part)] = old[part]
        search_info = build_search_files(index.search, embeddings, draft.folder, index)
        if version.has_tower:
            link(folder / TOWER, draft.folder / TOWER)
    kept = {name: found[name] for name in ("dim", "dtype", "embedded_by", "search", "probe") if name in found}
    corpus = {"segment_hashes": [entry["hash"] for entry in manifest["segments"]], "tombstones": []}
    return draft.hand_over({**kept, **corpus, "num_blocks": len(rows), "search_info": search_info})


def _put_in_place(
    workdir: Workdir, before: Corpus, manifest: dict, stores: list[IndexStore], made: list[Version]
) -> None:
    """Puts the new corpus and versions in place and removes the old ones, all at once."""
    root, corpus = workdir.path, before.folder
    kept = {entry["name"] for entry in manifest["segments"]}
    gone = [corpus / entry["name"] for entry in before.manifest["segments"] if entry["name"] not in kept]
    gone += [version.folder for store in stores for version in store.versions()]
    write_json(corpus / NEXT_CORPUS, manifest)
    replace = [(corpus / NEXT_CORPUS, corpus / MANIFEST)]
    replace += [(version.folder / NEXT, version.folder / VERSION_MANIFEST) for version in made]
    redo.commit(
        root,
        replace=[tuple(os.path.relpath(path, root) for path in pair) for pair in replace],
        remove=[os.path.relpath(folder, root) for folder in gone],
    )
