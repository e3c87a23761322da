"""Builds index versions: a corpus embedded afresh, or an earlier version with what the corpus has gained since."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from realm_jax.config import Config
from realm_jax.data.corpus import Corpus
from realm_jax.data.prepare import RunData
from realm_jax.index.embed_blocks import TowerEmbedder, embed_corpus
from realm_jax.index.probe import make_probe, probe_recall
from realm_jax.index.publish import copy_rows, copy_search_files, publish
from realm_jax.index.search import Search, files_serve
from realm_jax.index.store import Draft, IndexStore
from realm_jax.index.version import Version
from realm_jax.models import embedder
from realm_jax.progress import Progress

PROBE_SENTENCES = 512


@dataclass(frozen=True)
class IndexBuilder:
    """Builds the index versions of one training phase: in a process of its own, or inside the trainer."""

    config: Config
    data: RunData
    """The run's corpora; the knowledge corpus is what is embedded."""
    store: IndexStore
    phase: str = "pretrain"
    """Training phase whose checkpoints embed the blocks, for the manifest."""
    check_in: Callable[[], None] = lambda: None
    """Called after every batch; may raise to give up, which leaves nothing behind."""

    def build(self, step: int, embedder_params: dict, embedded_by: dict | None = None) -> Version:
        """Embeds every block, builds the search's files and publishes the version of trainer step `step`.

        All versions of a store are built for one search, that of the first.
        The corpus is opened anew, since it may have grown (`realm update`); what it gains meanwhile is added at the
        end.

        Args:
            embedder_params: on the host.
            embedded_by: phase and step of the checkpoint that they come from, where that is another phase's.
        """
        store, corpus = self.store, Corpus.open(self.data.knowledge.folder)
        before = store.latest()
        config = self.config if before is None else with_search(self.config, before.manifest["search"])
        with store.begin(step) as draft:
            embeddings = draft.embeddings(corpus.num_blocks, config.model.projection_dim, config.index.dtype)
            between = _between_batches(draft, f"index of step {step}", self.check_in)
            embed_corpus(config, embedder_params, corpus, embeddings, between_batches=between)
            version = publish(
                draft,
                store,
                embeddings,
                corpus,
                config.index,
                tower=embedder.tower(embedder_params, "block"),
                embedded_by=embedded_by or {"phase": self.phase, "step": step},
                measure=lambda search: self._probe(corpus, embedder_params, search),
            )
        is_current = version.is_current(Corpus.open(corpus.folder))
        return version if is_current else extend_version(config, corpus, store, version)

    def _probe(self, corpus: Corpus, embedder_params: dict, search: Search) -> dict:
        """Recall of held-out sentences, for the manifest; nothing where there are none."""
        probe = make_probe(corpus, self.data.special, self.config, PROBE_SENTENCES)
        if probe is None:
            return {}
        embed = TowerEmbedder(self.config, embedder_params, "query")
        return {"probe": {k: round(v.mean, 4) for k, v in probe_recall(probe, embed, search).items()}}


def _between_batches(
    draft: Draft, label: str, check_in: Callable[[], None] = lambda: None
) -> Callable[[int, int], None]:
    """Shows progress, keeps the draft claimed and checks in; called with (blocks done, blocks to do)."""
    progress = Progress(label)

    def between(done: int, total: int) -> None:
        progress(done, total)
        draft.touch()
        check_in()

    return between


def with_search(config: Config, search: str) -> Config:
    """The config with another search, for which index versions are then built."""
    return dataclasses.replace(config, index=dataclasses.replace(config.index, search=search))


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
            between = _between_batches(draft, "index, new blocks")
            new, rows = np.arange(len(old), corpus.num_blocks), embeddings[len(old) :]
            embed_corpus(config, {"block": tower}, corpus, rows, blocks=new, between_batches=between)
        info = None
        if files_serve(index.search, manifest["search_info"].get("blocks", len(old)), corpus.num_blocks, index):
            info = copy_search_files(version, draft)
        common = {"tower": tower, "embedded_by": manifest.get("embedded_by"), "search_info": info}
        return publish(draft, store, embeddings, corpus, index, **common)
