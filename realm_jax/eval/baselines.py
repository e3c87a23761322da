"""Rankings that a learned retriever has to beat."""

import logging

import bm25s
import numpy as np
from jaxtyping import Int

from realm_jax.data.corpus import Corpus
from realm_jax.eval.bm25_index import Bm25Index

log = logging.getLogger("bm25s")
log.setLevel(logging.WARNING)


def bm25(corpus: Corpus, queries: list[str], k: int) -> Int[np.ndarray, "batch k"]:
    """The k best blocks (title and text) of each query by BM25; -1 where fewer blocks share a word with it."""
    index = Bm25Index(corpus)
    wanted = bm25s.tokenize(queries, stopwords="en", show_progress=False)
    live = corpus.live.astype(np.float32)
    options = {"k": min(k, corpus.num_blocks), "weight_mask": live, "show_progress": False}
    found, scores = index.scores.retrieve(wanted, **options)
    found = np.where(scores > 0, found, -1).astype(np.int32)
    return np.pad(found, ((0, 0), (0, k - found.shape[1])), constant_values=-1)
