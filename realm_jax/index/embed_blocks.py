"""Embeds every block of a corpus with one tower, in batches of similar length."""

import functools
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from realm_jax import parallel
from realm_jax.batches import Tokens
from realm_jax.config import Config, ModelConfig
from realm_jax.data.corpus import Corpus
from realm_jax.data.length_batches import length_batches
from realm_jax.models import embedder

LENGTH_STEP = 16  # lengths are rounded up to a multiple: one compiled program each


class TowerEmbedder:
    """Compiled embedding of token batches with given parameters, on all local devices.

    Args:
        params: the embedder's parameters on the host.
    """

    def __init__(self, config: Config, params: dict, side: embedder.Side):
        self._params = parallel.replicate(embedder.tower(params, side))
        self._run = _compiled(config.model)

    def __call__(self, tokens: Tokens) -> Float[np.ndarray, "batch dim"]:
        """Embeddings, float32, of tokens [batch, tokens]; the batch must divide over the devices."""
        embedding = np.asarray(self._run(self._params, parallel.shard(tokens)))
        return embedding.reshape(-1, embedding.shape[-1])


@functools.cache  # one function, so that the next parameters find it compiled
def _compiled(model: ModelConfig) -> Callable:
    return parallel.on_local_devices(lambda tower, tokens: embedder.embed(model, {"shared": tower}, "query", tokens))


def embed_corpus(
    config: Config,
    params: dict,
    corpus: Corpus,
    out: Float[np.ndarray, "blocks dim"],
    *,
    first: int = 0,
    between_batches: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Writes the embedding of block i to out[i], for every block from `first` on.

    Args:
        out: float32 or bfloat16; may be a memory map.
        between_batches: called with (blocks done, blocks to do); may raise to stop.
    """
    embed = TowerEmbedder(config, params, "block")
    lengths, done = corpus.lengths[first:], 0
    plan = {
        "batch_tokens": config.index.embed_batch_tokens,
        "step": LENGTH_STEP,
        "most": config.corpus.block_len_tokens,
    }
    for chosen, size, length in length_batches(lengths, **plan, devices=parallel.num_devices()):
        rows = first + chosen
        padded = np.concatenate([rows, np.full(size - len(rows), -1)])
        embedding = embed(corpus.embedder_tokens(padded, length))
        out[rows] = embedding[: len(rows)].astype(out.dtype)
        done += len(rows)
        between_batches(done, len(lengths))
