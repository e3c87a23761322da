"""Turns embeddings into a version: writes the search's files and the manifest, and prunes older versions."""

import logging
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from realm_jax import faults
from realm_jax.buckets import copy_files
from realm_jax.config import IndexConfig
from realm_jax.data.corpus import Corpus
from realm_jax.index.search import Search, build_search_files, open_search
from realm_jax.index.store import Draft, IndexStore
from realm_jax.index.version import EMBEDDINGS, TOWER, Version

log = logging.getLogger(__name__)

COPY_ROWS = 65_536
TOLD = ("plain_recall@5", "hard_recall@5")  # the measures of the probe that the log line gives


def publish(
    draft: Draft,
    store: IndexStore,
    embeddings: Float[np.ndarray, "blocks dim"],
    corpus: Corpus,
    config: IndexConfig,
    *,
    tower: dict | None,
    embedded_by: dict | str | None,
    search_info: dict | None = None,
    measure: Callable[[Search], dict] | None = None,
) -> Version:
    """Publishes a draft whose embeddings are filled: writes the search's files and the manifest, then prunes.

    Args:
        embeddings: those of the draft.
        tower: the block tower that made them; None if unavailable.
        embedded_by: the checkpoint of the tower, or what published embeddings came from.
        search_info: facts about the search's files, where the draft has them already.
        measure: search over the live blocks -> further fields of the manifest.
    """
    faults.point("search files")
    if search_info is None:
        search_info = build_search_files(config.search, embeddings, draft.folder, config)
    if tower is not None:
        draft.save_tower(tower)
    fields = {
        "segment_hashes": corpus.segment_hashes,
        "tombstones": corpus.tombstones.tolist(),
        "embedded_by": embedded_by,
        "search": config.search,
        "search_info": search_info,
    }
    if measure is not None:
        search = open_search(config.search, embeddings, live=corpus.live, folder=draft.folder, config=config)
        fields |= measure(search)
    version = draft.publish(fields)
    faults.point("published")
    store.prune(config.keep_versions, but=version)
    log.info(_told(version))
    return version


def _told(version: Version) -> str:
    """What people need to know of a new version; its manifest has the rest."""
    manifest = version.manifest
    facts, probe = [f"{manifest['num_blocks']:,} blocks in {manifest['seconds']:.1f} s"], manifest.get("probe", {})
    facts += [f"{name.replace('_', ' ')} {probe[name]:.3f}" for name in TOLD if name in probe]
    return f"index version of step {version.step}: {', '.join(facts)}"


def copy_rows(
    source: Float[np.ndarray, "rows dim"],
    target: Float[np.ndarray, "blocks dim"],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Copies embeddings into the first rows of a draft's, a few at a time: both may be larger than memory."""
    for start in range(0, len(source), COPY_ROWS):
        rows = source[start : start + COPY_ROWS]
        target[start : start + len(rows)] = rows
        progress(start + len(rows), len(source))


def copy_search_files(version: Version, draft: Draft) -> dict:
    """Copies what a version's search needs besides embeddings, and returns its `search_info`."""
    own = (EMBEDDINGS, TOWER)
    copy_files([name for name in version.manifest["files"] if name not in own], version.local_folder(), draft.folder)
    return version.manifest["search_info"]
