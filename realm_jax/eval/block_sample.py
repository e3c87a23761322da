"""The blocks of a large corpus that an evaluation embeds: fixed ones that are drawn, and those that matter.

Every state of a run is judged by an index made with its own weights. To embed 13 million blocks for each of them would
take longer than to train, so of a corpus of more than `pretrain.eval_blocks` that many are drawn uniformly, by the seed
alone. To them come the blocks that have to be found, and what the newest index version finds for the same queries: the
near misses that make retrieval hard. Recall over a sample is at least that over all blocks, and higher for the states
whose own near misses were not drawn.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Int64

from realm_jax.batches import Tokens
from realm_jax.config import Config
from realm_jax.data.corpus import Corpus
from realm_jax.index.embed_blocks import TowerEmbedder
from realm_jax.index.loaded_index import LoadedIndex, load
from realm_jax.index.probe import embed_queries
from realm_jax.index.store import IndexStore
from realm_jax.workdir import Workdir

SEARCH_BATCH = 64
MOST_FOUND = 1000  # blocks that are added for each query, however many are judged


@dataclass(frozen=True)
class BlockSample:
    """Blocks of a corpus that stand for all of them."""

    blocks: Int64[np.ndarray, " blocks"]
    """Ordinals, ascending."""
    num_live: int
    """How many blocks the corpus has."""
    drawn: int
    """How many of `blocks` were drawn uniformly; the others were wanted or found."""
    found_by: str
    """What found the near misses."""

    def __str__(self) -> str:
        added = len(self.blocks) - self.drawn
        near = f" or found by {self.found_by}" if self.found_by else ""
        return (
            f"over a sample of {len(self.blocks):,} of {self.num_live:,} blocks: {self.drawn:,} drawn uniformly, and "
            f"{added:,} that are wanted{near}; recall over a sample is higher than over all"
        )

    def facts(self) -> dict:
        """The sample as plain values, with the sentence that says it."""
        sizes = {"blocks": len(self.blocks), "of": self.num_live, "drawn": self.drawn}
        return {**sizes, "found_by": self.found_by, "says": str(self)}


def draw(
    config: Config, corpus: Corpus, wanted: Iterable[Int[np.ndarray, "*_shape"]], found_by: str = ""
) -> BlockSample:
    """Draws `pretrain.eval_blocks` live blocks, and adds those that are wanted or found; -1 counts as none."""
    live = np.flatnonzero(corpus.live)
    size = min(config.pretrain.eval_blocks, len(live))
    drawn = np.random.default_rng(config.seed).choice(live, size, replace=False)
    is_in = np.zeros(corpus.num_blocks, bool)
    for blocks in (drawn, *wanted):
        is_in[blocks[blocks >= 0]] = True
    return BlockSample(np.flatnonzero(is_in & corpus.live), len(live), size, found_by)


class NewestIndex:
    """The newest index version of a run, with the search that it was built for, and the query tower of its last state.

    Args:
        params: the embedder's, of the newest state.
    """

    def __init__(self, workdir: Workdir, corpus: Corpus, params: dict):
        version = IndexStore(workdir.index_folder).latest()
        self.name = f"the index of step {version.step}" if version else ""
        self._embed = TowerEmbedder(workdir.config, params, "query")
        self._index: LoadedIndex | None = None
        if version is not None:
            self._index = load(version, corpus, workdir.config.index, version.manifest["search"])

    def __bool__(self) -> bool:
        return self._index is not None

    def search(
        self, queries: Tokens, k: int
    ) -> tuple[Int[np.ndarray, "queries found"], Float[np.ndarray, "queries found"]]:
        """The k best blocks of each query, at most MOST_FOUND, and their scores; none where there is no version."""
        k = min(k, MOST_FOUND)
        if self._index is None:
            return np.zeros((len(queries.ids), 0), np.int32), np.zeros((len(queries.ids), 0), np.float32)
        query_emb = embed_queries(self._embed, queries)
        starts = range(0, len(query_emb), SEARCH_BATCH)
        parts = [self._index.search.search(query_emb[start : start + SEARCH_BATCH], k) for start in starts]
        blocks, scores = zip(*parts, strict=True)
        return np.concatenate(blocks), np.concatenate(scores)
