"""Embeds the blocks of a corpus with one tower, range by range, in batches of similar length.

A range is a row of neighbouring blocks that is embedded by itself, by whichever process takes it (`shared_embedding`).
Where ranges begin depends on the lengths of the blocks alone, and a batch never leaves its range: so the bits of the
embeddings do not depend on who embeds what.
"""

import functools
import itertools
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
RANGE_TOKENS = 1 << 24
"""Wordpieces of a range: about 3e15 FLOP for BERT-base, which take an accelerator a minute or less."""


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


def ranges_of(lengths: Int[np.ndarray, " blocks"], tokens: int = RANGE_TOKENS) -> list[range]:
    """Cuts blocks into ranges of about `tokens` wordpieces, by their lengths alone."""
    part = (np.cumsum(lengths, dtype=np.int64) - 1) // tokens
    starts = np.flatnonzero(np.diff(part, prepend=-1)).tolist()
    return [range(start, limit) for start, limit in itertools.pairwise([*starts, len(lengths)])]


def embed_range(
    config: Config,
    embed: TowerEmbedder,
    corpus: Corpus,
    blocks: Int[np.ndarray, " range"],
    out: Float[np.ndarray, "range dim"],
    between_batches: Callable[[int], None] = lambda done: None,
) -> None:
    """Writes the embedding of block blocks[i] to out[i].

    Args:
        embed: with the block tower.
        blocks: ordinals of the blocks of one range.
        out: float32 or bfloat16; may be a memory map.
        between_batches: called with the number of blocks done; may raise to stop.
    """
    done = 0
    plan = {
        "batch_tokens": config.index.embed_batch_tokens,
        "step": LENGTH_STEP,
        "most": config.corpus.block_len_tokens,
    }
    for chosen, size, length in length_batches(corpus.lengths[blocks], **plan, devices=parallel.num_devices()):
        padded = np.concatenate([blocks[chosen], np.full(size - len(chosen), -1)])
        embedding = embed(corpus.embedder_tokens(padded, length))
        out[chosen] = embedding[: len(chosen)].astype(out.dtype)
        done += len(chosen)
        between_batches(done)


def embed_corpus(
    config: Config,
    params: dict,
    corpus: Corpus,
    out: Float[np.ndarray, "blocks dim"],
    *,
    blocks: Int[np.ndarray, " blocks"] | None = None,
    between_batches: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Writes the embedding of block blocks[i] to out[i], in this process alone.

    Args:
        out: float32 or bfloat16; may be a memory map.
        blocks: ordinals; all blocks of the corpus by default.
        between_batches: called with (blocks done, blocks to do); may raise to stop.
    """
    embed = TowerEmbedder(config, params, "block")
    blocks = np.arange(corpus.num_blocks) if blocks is None else blocks
    for part in ranges_of(corpus.lengths[blocks]):

        def between(done: int, before: int = part.start) -> None:
            between_batches(before + done, len(blocks))

        rows = slice(part.start, part.stop)
        embed_range(config, embed, corpus, blocks[rows], out[rows], between)
