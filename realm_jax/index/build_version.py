"""Builds one index version: embeds the corpus, makes the search's files, measures them and publishes."""

from collections.abc import Callable

from realm_jax.config import Config
from realm_jax.data.corpus import Corpus
from realm_jax.data.masking import SpecialIds
from realm_jax.index.embed_blocks import TowerEmbedder, embed_corpus
from realm_jax.index.probe import make_probe, probe_recall
from realm_jax.index.search import build_search_files, open_search
from realm_jax.index.versions import IndexStore, Version
from realm_jax.progress import Progress

PROBE_SENTENCES = 512


def build_version(
    config: Config,
    corpus: Corpus,
    special: SpecialIds,
    store: IndexStore,
    step: int,
    embedder_params: dict,
    *,
    check_in: Callable[[], None] = lambda: None,
) -> Version:
    """Embeds every block, builds the search's files and publishes the version of trainer step `step`.

    Args:
        embedder_params: on the host.
        check_in: called after every batch; may raise to give up, which leaves nothing behind.
    """
    with store.begin(step) as draft:
        dim = config.model.projection_dim
        embeddings = draft.embeddings(corpus.num_blocks, dim, config.index.dtype)
        progress = Progress(f"index of step {step}, blocks")

        def between_batches(done: int, total: int) -> None:
            progress(done, total)
            draft.touch()
            check_in()

        embed_corpus(config, embedder_params, corpus, embeddings, between_batches=between_batches)
        info = build_search_files(config.index.search, embeddings, draft.folder, config.index)
        fields = {"segment_hashes": corpus.segment_hashes, "search": config.index.search, "search_info": info}
        probe = make_probe(corpus, special, config, PROBE_SENTENCES)
        if probe is not None:
            search = open_search(config.index.search, embeddings, live=None, folder=draft.folder, config=config.index)
            embed = TowerEmbedder(config, embedder_params, "query")
            fields["probe"] = {k: round(v.mean, 4) for k, v in probe_recall(probe, embed, search).items()}
        version = draft.publish(fields)
    store.prune(config.index.keep_versions)
    print(
        f"index version of step {step}: {version.manifest['seconds']:.1f} s {fields.get('probe', '')} {info}",
        flush=True,
    )
    return version
