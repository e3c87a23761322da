"""Builds index versions: a corpus embedded afresh, or an earlier version with what the corpus has gained since."""

import dataclasses
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from realm_jax.buckets import copy_files
from realm_jax.config import Config, IndexConfig
from realm_jax.data.assembly import SpecialIds
from realm_jax.data.corpus import Corpus
from realm_jax.index.embed_blocks import TowerEmbedder, embed_corpus
from realm_jax.index.probe import make_probe, probe_recall
from realm_jax.index.search import Search, build_search_files, files_serve, open_search
from realm_jax.index.store import Draft, IndexStore
from realm_jax.index.version import EMBEDDINGS, TOWER, Version
from realm_jax.models import embedder
from realm_jax.progress import Progress

PROBE_SENTENCES = 512
COPY_ROWS = 65_536


def build_version(
    config: Config,
    corpus: Corpus,
    special: SpecialIds,
    store: IndexStore,
    step: int,
    embedder_params: dict,
    *,
    embedded_by: dict,
    check_in: Callable[[], None] = lambda: None,
) -> Version:
    """Embeds every block, builds the search's files and publishes the version of trainer step `step`.

    Args:
        corpus: opened anew, since it may have grown (`realm update`); what it gains meanwhile is added at the end.
        embedder_params: on the host.
        embedded_by: the checkpoint that they are from, for the manifest: `{"phase": "pretrain", "step": 800}`.
        check_in: called after every batch; may raise to give up, which leaves nothing behind.
    """
    corpus = Corpus.open(corpus.folder)
    with store.begin(step) as draft:
        embeddings = draft.embeddings(corpus.num_blocks, config.model.projection_dim, config.index.dtype)
        progress = Progress(f"index of step {step}, blocks")

        def between_batches(done: int, total: int) -> None:
            progress(done, total)
            draft.touch()
            check_in()

        def measure(search: Search) -> dict:
            probe = make_probe(corpus, special, config, PROBE_SENTENCES)
            if probe is None:
                return {}
            embed = TowerEmbedder(config, embedder_params, "query")
            return {"probe": {k: round(v.mean, 4) for k, v in probe_recall(probe, embed, search).items()}}

        embed_corpus(config, embedder_params, corpus, embeddings, between_batches=between_batches)
        tower = embedder.tower(embedder_params, "block")
        common = {"tower": tower, "embedded_by": embedded_by, "measure": measure}
        version = publish(draft, store, embeddings, corpus, config.index, **common)
    return version if version.is_current(Corpus.open(corpus.folder)) else extend_version(config, corpus, store, version)


def extend_version(config: Config, corpus: Corpus, store: IndexStore, version: Version) -> Version:
    """Publishes `version` with what the corpus has gained since, under the same step: segments and tombstones.

    Only new blocks are embedded, with the version's own block tower; the others keep their embeddings.

    Args:
        corpus: opened anew.
        version: of `store`; pinned, where another process may prune.

    Raises:
        ConfigError: the version belongs to another corpus, is damaged, or lacks the tower that new blocks need.
    """
    corpus = Corpus.open(corpus.folder)
    version.check_corpus(corpus.segment_hashes)
    old, manifest = version.load_embeddings(), version.manifest
    is_longer = corpus.num_blocks > len(old)
    tower = version.load_tower() if is_longer or version.has_tower else None
    index = dataclasses.replace(config.index, search=manifest["search"], dtype=manifest["dtype"])
    with store.begin(version.step) as draft:
        embeddings = draft.embeddings(corpus.num_blocks, old.shape[1], index.dtype)
        copy_rows(old, embeddings, draft)
        if is_longer:
            progress = Progress("index, new blocks")

            def between_batches(done: int, total: int) -> None:
                progress(done, total)
                draft.touch()

            params = {"block": tower}
            embed_corpus(config, params, corpus, embeddings, first=len(old), between_batches=between_batches)
        info = None
        if files_serve(index.search, manifest["search_info"].get("blocks", len(old)), corpus.num_blocks, index):
            info = copy_search_files(version, draft)
        common = {"tower": tower, "embedded_by": manifest.get("embedded_by"), "search_info": info}
        return publish(draft, store, embeddings, corpus, index, **common)


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
        tower: the block tower that made them; None where nobody has it.
        embedded_by: the checkpoint of the tower, or what published embeddings came from.
        search_info: of the search's files, where the draft has them already.
        measure: search over the live blocks -> further fields of the manifest.
    """
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
    store.prune(config.keep_versions)
    seconds, probe = version.manifest["seconds"], fields.get("probe", "")
    print(f"index version of step {version.step}: {seconds:.1f} s {probe} {search_info}", flush=True)
    return version


def copy_rows(
    source: Float[np.ndarray, "rows dim"],
    target: Float[np.ndarray, "blocks dim"],
    draft: Draft,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Copies embeddings into the first rows of a draft's, a few at a time: both may be larger than memory."""
    for start in range(0, len(source), COPY_ROWS):
        rows = source[start : start + COPY_ROWS]
        target[start : start + len(rows)] = rows
        progress(start + len(rows), len(source))
        draft.touch()


def copy_search_files(version: Version, draft: Draft) -> dict:
    """Copies what a version's search needs besides embeddings, and returns its `search_info`."""
    own = (EMBEDDINGS, TOWER)
    copy_files([name for name in version.manifest["files"] if name not in own], version.local_folder(), draft.folder)
    return version.manifest["search_info"]
