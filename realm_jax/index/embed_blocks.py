"""Embeds every block of a corpus with one tower, in batches of similar length."""

import functools
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

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
    blocks: Int[np.ndarray, " blocks"] | None = None,
    between_batches: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Writes the embedding of block blocks[i] to out[i].

    Args:
        out: float32 or bfloat16; may be a memory map.
        blocks: ordinals; all blocks of the corpus by default.
        between_batches: called with (blocks done, blocks to do); may raise to stop.
    """
    embed = TowerEmbedder(config, params, "block")
    blocks = np.arange(corpus.num_blocks) if blocks is None else blocks
    lengths, done = corpus.lengths[blocks], 0
    plan = {
        "batch_tokens": config.index.embed_batch_tokens,
        "step": LENGTH_STEP,
        "most": config.corpus.block_len_tokens,
    }
    for chosen, size, length in length_batches(lengths, **plan, devices=parallel.num_devices()):
        padded = np.concatenate([blocks[chosen], np.full(size - len(chosen), -1)])
        embedding = embed(corpus.embedder_tokens(padded, length))
        out[chosen] = embedding[: len(chosen)].astype(out.dtype)
        done += len(chosen)
        between_batches(done, len(lengths))
