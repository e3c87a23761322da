"""Builds index versions: a corpus embedded afresh, or an earlier version with what the corpus has gained since."""

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from realm_jax import faults
from realm_jax.config import Config, RunError
from realm_jax.data.corpus import Corpus
from realm_jax.data.prepare import RunData
from realm_jax.index.embed_blocks import RANGE_TOKENS, TowerEmbedder, embed_corpus, ranges_of
from realm_jax.index.probe import probe_recall, run_probe
from realm_jax.index.publish import copy_rows, copy_search_files, publish
from realm_jax.index.search import Search, files_serve
from realm_jax.index.shared_embedding import Between, SharedEmbedding
from realm_jax.index.shared_work import JOIN, SharedWork
from realm_jax.index.store import IndexStore
from realm_jax.index.version import Version
from realm_jax.models import embedder
from realm_jax.models.names import flatten
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
    range_tokens: int = RANGE_TOKENS
    """Wordpieces of a range, the same in all processes."""

    def build(self, step: int, embedder_params: dict, embedded_by: dict | None = None) -> Version:
        """Embeds every block, builds the search's files and publishes the version of trainer step `step`.

        Processes that build the same version at the same time share the blocks (`shared_embedding`). The first of them
        joins and publishes; if it dies, another one does. Each returns the version once it is published.

        All versions of a store are built for one search, that of the first.
        The corpus is opened anew, since it may have grown (`realm update`); what it gains meanwhile is added at the
        end.

        Args:
            embedder_params: on the host.
            embedded_by: phase and step of the checkpoint that they come from, where that is another phase's.
        """
        weights = fingerprint(embedder_params)
        facts = {"weights": weights, "embedded_by": embedded_by or {"phase": self.phase, "step": step}}
        with Progress(f"index of step {step}") as progress:

            def between(done: int, total: int) -> None:
                progress(done, total)
                faults.point("embedding")

            while (version := self._published(step, weights)) is None:
                with self.store.shared_work(step, weights) as work:
                    shared = self._shared(work, embedder_params, between)
                    if shared is None:  # it is over, and was just published
                        continue
                    if not work.take(JOIN):
                        shared.help(self.config.index.dtype)
                    elif self._published(step, weights) is None:  # else it was between the two lines above
                        version = self._join(shared, step, facts)
                        work.remove()
                        break
        return version

    def steps_under_way(self) -> list[int]:
        """Steps whose versions some process is building, ascending."""
        folders = [folder for folder in self.store.works() if SharedWork(folder).holder(JOIN)]
        return sorted(int(folder.name.split("-")[0]) for folder in folders)

    def _published(self, step: int, weights: str) -> Version | None:
        """The version that was built from these weights, if it is there."""
        for version in self.store.whole_versions():
            if version.step == step and version.manifest.get("weights") == weights:
                return version
        return None

    def _shared(self, work: SharedWork, params: dict, between: Between) -> SharedEmbedding | None:
        """What the processes share; None if the work is over."""
        corpus = Corpus.open(self.data.knowledge.folder)
        ranges = ranges_of(corpus.lengths, self.range_tokens)
        plan = work.agree({"segments": len(corpus.segments), "blocks": corpus.num_blocks, "ranges": len(ranges)})
        if plan is None:
            return None
        if plan["segments"] != len(corpus.segments):  # it has grown since the first process opened it
            corpus = corpus.up_to(plan["segments"])
            ranges = ranges_of(corpus.lengths, self.range_tokens)
        return SharedEmbedding(self.config, params, corpus, np.arange(corpus.num_blocks), ranges, work, between)

    def _join(self, shared: SharedEmbedding, step: int, facts: dict) -> Version:
        """Publishes what all have embedded."""
        store, corpus, params = self.store, shared.corpus, shared.params
        searches = [version.manifest["search"] for version in store.whole_versions()]
        config = with_search(self.config, searches[0]) if searches else self.config

        def measure(search: Search) -> dict:
            if not shared.work.is_mine(JOIN):
                raise RunError(f"{shared.work.folder}: another process took over while this one stood still: run again")
            return {"weights": facts["weights"], **self._probe(corpus, params, search)}

        with store.begin(step) as draft:
            embeddings = draft.embeddings(corpus.num_blocks, config.model.projection_dim, config.index.dtype)
            shared.join(embeddings)
            tower, embedded_by = embedder.tower(params, "block"), facts["embedded_by"]
            common = {"tower": tower, "embedded_by": embedded_by, "measure": measure}
            version = publish(draft, store, embeddings, corpus, config.index, **common)
        is_current = version.is_current(Corpus.open(corpus.folder))
        return version if is_current else extend_version(config, corpus, store, version)

    def _probe(self, corpus: Corpus, embedder_params: dict, search: Search) -> dict:
        """Recall of held-out sentences, for the manifest; nothing where there are none."""
        probe = run_probe(corpus, self.data.special, self.config, PROBE_SENTENCES, self.data.examples)
        if probe is None:
            return {}
        embed = TowerEmbedder(self.config, embedder_params, "query")
        return {"probe": {k: round(v.mean, 4) for k, v in probe_recall(probe, embed, search).items()}}


def fingerprint(params: Mapping) -> str:
    """Twelve hexadecimal digits that tell parameters from others."""
    digest = hashlib.sha256()
    for name, leaf in sorted(flatten(params).items()):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(leaf))
    return digest.hexdigest()[:12]


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
        copy_rows(old, embeddings)
        if is_longer:
            new, rows = np.arange(len(old), corpus.num_blocks), embeddings[len(old) :]
            progress = Progress("index, new blocks")
            embed_corpus(config, {"block": tower}, corpus, rows, blocks=new, between_batches=progress)
        info = None
        if files_serve(index.search, manifest["search_info"].get("blocks", len(old)), corpus.num_blocks, index):
            info = copy_search_files(version, draft)
        common = {"tower": tower, "embedded_by": manifest.get("embedded_by"), "search_info": info}
        return publish(draft, store, embeddings, corpus, index, **common)
