"""An index in memory: a stored version with its search, or embeddings computed afresh to evaluate weights."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from realm_jax.config import Config, ConfigError, IndexConfig
from realm_jax.data.corpus import Corpus
from realm_jax.index.embed_blocks import embed_corpus
from realm_jax.index.exact import ExactSearch
from realm_jax.index.search import Search, open_search
from realm_jax.index.version import Version
from realm_jax.progress import Progress


@dataclass(frozen=True)
class LoadedIndex:
    """A search over a corpus's live blocks, and the embeddings that it searches."""

    search: Search
    embeddings: Float[np.ndarray, "blocks dim"]
    version: Version | None = None
    """The version that holds the embeddings; None if they are not stored."""


def load(version: Version, corpus: Corpus, config: IndexConfig, kind: str) -> LoadedIndex:
    """An index version with the search that it was built for, or the exact one; see `Version.live_blocks`.

    Args:
        kind: exact, scann or lsh; exact search needs no files and fits every version.

    Raises:
        ConfigError: the version was built for another search or over another corpus, or is damaged.
    """
    if kind != "exact" and version.manifest["search"] != kind:
        raise ConfigError(
            f"{version.folder} was built for index.search={version.manifest['search']}, the config says {kind}: "
            "use another --workdir"
        )
    live, embeddings = version.live_blocks(corpus), version.load_embeddings()
    folder = version.local_folder()
    search = open_search(kind, embeddings, live=None if live.all() else live, folder=folder, config=config)
    return LoadedIndex(search, embeddings, version)


def open_exact(version: Version, corpus: Corpus) -> LoadedIndex:
    """The embeddings of an index version, searched exactly whatever it was built for; see `Version.live_blocks`.

    Raises:
        ConfigError: the version belongs to another corpus, or is damaged.
    """
    embeddings = version.load_embeddings()
    return LoadedIndex(ExactSearch(embeddings, version.live_blocks(corpus)), embeddings, version)


def exact_index(config: Config, corpus: Corpus, embedder_params: dict, name: str) -> LoadedIndex:
    """Embeds the corpus, in float32, with the very weights that are evaluated, so that the index is not stale.

    Args:
        name: what the progress line calls the parameters.
    """
    embeddings = np.empty((corpus.num_blocks, config.model.projection_dim), np.float32)
    embed_corpus(config, embedder_params, corpus, embeddings, between_batches=Progress(f"{name}: embedding blocks"))
    return LoadedIndex(ExactSearch(embeddings, corpus.live), embeddings)
