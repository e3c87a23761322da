"""Blocks embedded for an evaluation by all processes that train together: the first one has the result."""

import io

import numpy as np
from etils import epath
from jaxtyping import Float, Int

from realm_jax import processes
from realm_jax.config import Config
from realm_jax.data.corpus import Corpus
from realm_jax.index.embed_blocks import RANGE_TOKENS, embed_corpus, ranges_of
from realm_jax.index.shared_embedding import SharedEmbedding
from realm_jax.index.shared_work import JOIN, SharedWork
from realm_jax.progress import Progress

BLOCKS = "blocks.npy"


def embed_together(
    config: Config,
    params: dict,
    corpus: Corpus,
    folder: epath.Path,
    name: str,
    *,
    blocks: Int[np.ndarray, " blocks"] | None = None,
    range_tokens: int = RANGE_TOKENS,
) -> Float[np.ndarray, "blocks dim"] | None:
    """Embeds blocks in float32. All processes must call this, with the same parameters.

    Args:
        params: the embedder's parameters on the host.
        folder: all processes see it; it is removed before and after. A process that is alone does not use it.
        name: what the progress line calls the parameters.
        blocks: ordinals; all blocks of the corpus by default. What the first process passes counts for all.

    Returns:
        on the first process, the embedding of blocks[i] as row i; None on the others.

    Raises:
        RunError: a process that takes part had nothing done within `index.wait_timeout_s`.
    """
    with Progress(f"{name}: embedding blocks") as progress:
        if not processes.are_many():
            out = _empty(config, corpus.num_blocks if blocks is None else len(blocks))
            embed_corpus(config, params, corpus, out, blocks=blocks, between_batches=progress)
            return out
        processes.on_first(lambda: folder.rmtree(missing_ok=True))
        with SharedWork(folder) as work:
            processes.on_first(lambda: _begin(work, blocks))
            chosen = _chosen(work, corpus)
            processes.wait_for_all("all know the blocks")
            shared = SharedEmbedding(
                config, params, corpus, chosen, ranges_of(corpus.lengths[chosen], range_tokens), work, progress
            )
            out = _empty(config, len(chosen)) if processes.is_first() else None
            if out is None:
                shared.help("float32")
            else:
                shared.join(out)
                work.remove()
        processes.wait_for_all("the blocks are embedded")
    return out


def _empty(config: Config, rows: int) -> Float[np.ndarray, "blocks dim"]:
    return np.empty((rows, config.model.projection_dim), np.float32)


def _begin(work: SharedWork, blocks: np.ndarray | None) -> None:
    if blocks is not None:
        buffer = io.BytesIO()
        np.save(buffer, blocks)
        (work.folder / BLOCKS).write_bytes(buffer.getvalue())
    work.agree({"of_all": blocks is None})
    work.take(JOIN)


def _chosen(work: SharedWork, corpus: Corpus) -> Int[np.ndarray, " blocks"]:
    if work.agree({})["of_all"]:
        return np.arange(corpus.num_blocks)
    return np.load(io.BytesIO((work.folder / BLOCKS).read_bytes()))
