"""Finds blocks for texts: the query tower, and an exact search over what the block tower made of the corpus."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from realm_jax.batches import Tokens
from realm_jax.config import Config
from realm_jax.data.prepare import RunData
from realm_jax.index.embed_blocks import TowerEmbedder
from realm_jax.index.loaded_index import LoadedIndex
from realm_jax.index.probe import embed_queries
from realm_jax.openqa.inputs import block_tokens, question_tokens
from realm_jax.records import Question

SEARCH_BATCH = 512


class Retriever:
    """One embedder over one index.

    Args:
        params: the embedder's parameters, on the host.
        query_len_tokens: wordpieces of a query, with [CLS] and [SEP]; longer ones are cut.
    """

    def __init__(self, config: Config, data: RunData, params: dict, index: LoadedIndex, query_len_tokens: int):
        self._config, self._data, self._params, self._index = config, data, params, index
        self._query_len_tokens = query_len_tokens
        self._embed_query = TowerEmbedder(config, params, "query")
        self._embed_block: TowerEmbedder | None = None

    def encode(self, questions: Sequence[Question]) -> tuple[Tokens, Float[np.ndarray, "queries dim"]]:
        """Tokens [queries, tokens] and embeddings of questions."""
        tokens = question_tokens(questions, self._data.tokenizer, self._data.special, self._query_len_tokens)
        return tokens, self.embed(tokens)

    def embed(self, query: Tokens) -> Float[np.ndarray, "queries dim"]:
        """Embeddings of queries that are tokens already, [queries, tokens]."""
        return embed_queries(self._embed_query, query)

    def embed_blocks(self, blocks: Sequence[tuple[str, str]]) -> Float[np.ndarray, "blocks dim"]:
        """Embeddings of (title, text) by the block tower; what is longer than a block of the corpus is cut."""
        if self._embed_block is None:
            self._embed_block = TowerEmbedder(self._config, self._params, "block")
        length = self._data.knowledge.block_len_tokens
        tokens = block_tokens(blocks, self._data.tokenizer, self._data.special, length)
        return embed_queries(self._embed_block, tokens)

    def search(
        self, query_emb: Float[np.ndarray, "queries dim"], k: int
    ) -> tuple[Int[np.ndarray, "queries k"], Float[np.ndarray, "queries k"]]:
        """The k best blocks of each query and their retrieval scores; -1 and -inf where the corpus has fewer."""
        starts = range(0, len(query_emb), SEARCH_BATCH)
        parts = [self._index.search.search(query_emb[start : start + SEARCH_BATCH], k) for start in starts]
        blocks, scores = zip(*parts, strict=True)
        return np.concatenate(blocks), np.concatenate(scores)

    def scores(
        self, query_emb: Float[np.ndarray, "queries dim"], blocks: Int[np.ndarray, "queries k"]
    ) -> Float[np.ndarray, "queries k"]:
        """Inner products of queries with their blocks; those of block -1 mean nothing."""
        return np.einsum("qd,qkd->qk", query_emb, self._index.embeddings_of(blocks))
