"""Blocks embedded for an evaluation by all processes that train together: the first one has the result."""

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
    """Embeds blocks in float32. All processes must call this, with the same arguments.

    Args:
        params: the embedder's parameters on the host.
        folder: does not exist, or is left over; all processes see it, and it is removed at the end. A process that is
            alone does not use it.
        name: what the progress line calls the parameters.
        blocks: ordinals; all blocks of the corpus by default.

    Returns:
        on the first process, the embedding of blocks[i] as row i; None on the others.

    Raises:
        RunError: a process that takes part had nothing done within `index.wait_timeout_s`.
    """
    chosen = np.arange(corpus.num_blocks) if blocks is None else blocks
    out = np.empty((len(chosen), config.model.projection_dim), np.float32) if processes.is_first() else None
    with Progress(f"{name}: embedding blocks") as progress:
        if not processes.are_many():
            embed_corpus(config, params, corpus, out, blocks=chosen, between_batches=progress)
            return out
        ranges = ranges_of(corpus.lengths[chosen], range_tokens)
        processes.on_first(lambda: folder.rmtree(missing_ok=True))
        with SharedWork(folder) as work:
            shared = SharedEmbedding(config, params, corpus, chosen, ranges, work, progress)
            processes.on_first(lambda: work.agree({"ranges": len(ranges)}) and work.take(JOIN))
            if out is None:
                shared.help("float32")
            else:
                shared.join(out)
                work.remove()
        processes.wait_for_all("the blocks are embedded")
    return out
