"""An index in memory: a stored version with its search, or embeddings computed afresh to evaluate weights."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from realm_jax.batches import Array
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
    blocks: Int[np.ndarray, " blocks"] | None = None
    """Ordinals of the blocks that the rows of the embeddings are of, ascending; None where they are of all blocks."""

    def embeddings_of(self, blocks: Int[np.ndarray, "*blocks"]) -> Float[np.ndarray, "*blocks dim"]:
        """Embeddings of blocks in float32; those of block -1, and of one that is not in the index, mean nothing."""
        rows = np.maximum(blocks, 0)
        if self.blocks is not None:
            rows = np.minimum(np.searchsorted(self.blocks, rows), len(self.blocks) - 1)
        return np.asarray(self.embeddings[rows], np.float32)


class _AmongBlocks:
    """A search over some of the blocks, given by their ordinals, that finds ordinals."""

    def __init__(self, search: Search, blocks: Int[np.ndarray, " blocks"]):
        self._search, self._blocks = search, blocks

    def search(
        self, query_emb: Float[Array, "batch dim"], k: int
    ) -> tuple[Int[np.ndarray, "batch k"], Float[np.ndarray, "batch k"]]:
        """See `Search.search`."""
        rows, scores = self._search.search(query_emb, k)
        return np.where(rows < 0, -1, self._blocks[rows]).astype(np.int32), scores


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


def is_too_large(config: Config, corpus: Corpus) -> bool:
    """Whether evaluations embed a sample of the corpus's blocks for the weights that they judge, and not all."""
    return 0 < config.pretrain.eval_blocks < corpus.num_blocks


def exact_index(
    config: Config,
    corpus: Corpus,
    embedder_params: dict,
    name: str,
    blocks: Int[np.ndarray, " blocks"] | None = None,
) -> LoadedIndex:
    """Embeds the corpus, in float32, with the very weights that are evaluated, so that the index is not stale.

    Args:
        name: what the progress line calls the parameters.
        blocks: ordinals of the blocks to embed and search, ascending; all by default.
    """
    size = corpus.num_blocks if blocks is None else len(blocks)
    embeddings = np.empty((size, config.model.projection_dim), np.float32)
    progress = Progress(f"{name}: embedding blocks")
    embed_corpus(config, embedder_params, corpus, embeddings, blocks=blocks, between_batches=progress)
    return index_of(corpus, embeddings, blocks)


def index_of(
    corpus: Corpus,
    embeddings: Float[np.ndarray, "blocks dim"],
    blocks: Int[np.ndarray, " blocks"] | None = None,
) -> LoadedIndex:
    """An exact search over embeddings that are not stored.

    Args:
        blocks: ordinals of the blocks that they are of, ascending; all by default.
    """
    if blocks is None:
        return LoadedIndex(ExactSearch(embeddings, corpus.live), embeddings)
    search = _AmongBlocks(ExactSearch(embeddings, corpus.live[blocks]), blocks)
    return LoadedIndex(search, embeddings, blocks=blocks)
