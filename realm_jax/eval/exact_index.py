"""An exact index made with the very weights that are judged, so that neither staleness nor approximation enters."""

import numpy as np
from jaxtyping import Float

from realm_jax.config import Config
from realm_jax.data.corpus import Corpus
from realm_jax.index.embed_blocks import embed_corpus
from realm_jax.index.exact import ExactSearch
from realm_jax.progress import Progress


def exact_index(
    config: Config, corpus: Corpus, embedder_params: dict, name: str
) -> tuple[ExactSearch, Float[np.ndarray, "blocks dim"]]:
    """Embeds the corpus and returns a search over its live blocks, and the float32 embeddings.

    Args:
        name: of the parameters, for the progress line.
    """
    embeddings = np.empty((corpus.num_blocks, config.model.projection_dim), np.float32)
    embed_corpus(config, embedder_params, corpus, embeddings, between_batches=Progress(f"{name}: embedding blocks"))
    live = corpus.is_live(np.arange(corpus.num_blocks))
    return ExactSearch(embeddings, None if live.all() else live), embeddings
