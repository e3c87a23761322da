"""Exact search over all blocks, for whatever judges or fine-tunes weights: no approximation enters."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from realm_jax.config import Config
from realm_jax.data.corpus import Corpus
from realm_jax.index.embed_blocks import embed_corpus
from realm_jax.index.exact import ExactSearch
from realm_jax.index.version import Version
from realm_jax.progress import Progress


class ExactIndex(NamedTuple):
    """An exact search over a corpus's live blocks, and the embeddings that it searches."""

    search: ExactSearch
    embeddings: Float[np.ndarray, "blocks dim"]


def exact_index(config: Config, corpus: Corpus, embedder_params: dict, name: str) -> ExactIndex:
    """Embeds the corpus with the very weights that are judged, so that no staleness enters; in float32.

    Args:
        name: of the parameters, for the progress line.
    """
    embeddings = np.empty((corpus.num_blocks, config.model.projection_dim), np.float32)
    embed_corpus(config, embedder_params, corpus, embeddings, between_batches=Progress(f"{name}: embedding blocks"))
    return ExactIndex(ExactSearch(embeddings, corpus.live), embeddings)


def open_exact(version: Version, corpus: Corpus) -> ExactIndex:
    """The embeddings of an index version, searched exactly whatever it was built for; see `Version.live_blocks`.

    Raises:
        ConfigError: the version belongs to another corpus, or is damaged.
    """
    embeddings = version.load_embeddings()
    return ExactIndex(ExactSearch(embeddings, version.live_blocks(corpus)), embeddings)
