"""Pre-training batches of random wordpieces, in our form and as `oracle_step.py` reads them.

Row `padded`: every position and every prediction is real. Row `real`: lengths and predictions are drawn as Wikipedia
leads have them. Both forms hold the same queries and candidates, except that theirs pads the null block.
"""

from dataclasses import dataclass

import numpy as np

from realm_jax.batches import MaskedQueries, PretrainBatch, Tokens
from realm_jax.config import PretrainConfig
from realm_jax.data.assembly import joint_tokens, with_candidates

CANDIDATES, QUERY_LEN, BLOCK_LEN = 8, 96, 288
MASKS = PretrainConfig.max_masks
CLS, SEP, MASK, FIRST_WORD, VOCAB = 101, 102, 103, 1000, 30522
TITLE_LEN = 3

# Percentiles of the blocks of 10,033 Wikipedia leads (asset:wiki-leads, at most 288 wordpieces a block, with title and
# specials), of their maskable sentences, and of the predicted wordpieces.
PERCENTILES = (0, 5, 25, 50, 75, 95, 99, 99.9, 100)
REAL_BLOCK_LEN = (13, 43, 74, 101, 132, 188, 237, 277, 287)
REAL_QUERY_LEN = (6, 16, 26, 34, 44, 63, 81, 96, 96)
REAL_PREDICTIONS = (1, 1, 1, 2, 3, 5, 7, 10, 10)


@dataclass(frozen=True)
class RandomBlocks:
    """Stands in for a `Corpus` in `with_candidates` and `embed_corpus`."""

    words: np.ndarray
    """int [blocks, BLOCK_LEN]"""
    lengths: np.ndarray
    """int [blocks]: of `[CLS] title [SEP] body [SEP]`."""
    block_len_tokens: int = BLOCK_LEN

    @property
    def num_blocks(self) -> int:
        """How many there are."""
        return len(self.lengths)

    def embedder_tokens(self, indices: np.ndarray, length: int) -> Tokens:
        """As `Corpus.embedder_tokens`; -1 is the empty block."""
        at, empty = np.arange(length), (indices < 0)[..., None]
        limit = np.where(empty, 3, self.lengths[indices][..., None])
        body_start = np.where(empty, 2, TITLE_LEN + 2)
        ids = np.where((at == body_start - 1) | (at == limit - 1), SEP, self.words[indices, :length])
        mask = at < limit
        ids = np.where(at == 0, CLS, ids) * mask
        return Tokens(ids.astype(np.int32), mask, (mask & (at >= body_start)).astype(np.int32))


def random_batch(seed: int, size: int, *, padded: bool) -> tuple[PretrainBatch, dict[str, np.ndarray]]:
    """The same queries and candidates as our batch and as the oracle's arrays."""
    queries, candidates, corpus = _random_inputs(seed, size, padded=padded)
    return with_candidates(queries, candidates, corpus, 1), _oracle_arrays(queries, candidates, corpus)


def real_batch(seed: int, size: int) -> PretrainBatch:
    """A batch of any size with real lengths and predictions."""
    return with_candidates(*_random_inputs(seed, size, padded=False), 1)


def full_batch(seed: int, size: int, shares: int) -> PretrainBatch:
    """A batch of any size in which every position and every prediction is real, to be split into shares."""
    return with_candidates(*_random_inputs(seed, size, padded=True), shares)


def _random_inputs(seed: int, size: int, *, padded: bool) -> tuple[MaskedQueries, np.ndarray, RandomBlocks]:
    """Queries, the ordinals of their candidates, and the blocks."""
    rng = np.random.default_rng(seed)
    count = size * (CANDIDATES - 1)
    if padded:
        lengths, query_lengths, predictions = np.full(count, BLOCK_LEN), np.full(size, QUERY_LEN), [MASKS] * size
    else:
        lengths = drawn_lengths(rng, REAL_BLOCK_LEN, count)
        query_lengths = drawn_lengths(rng, REAL_QUERY_LEN, size)
        predictions = drawn_lengths(rng, REAL_PREDICTIONS, size)
    queries = _random_queries(rng, query_lengths, predictions)
    corpus = RandomBlocks(_words(rng, (count, BLOCK_LEN)), lengths)
    return queries, np.arange(count).reshape(size, CANDIDATES - 1), corpus


def drawn_lengths(rng: np.random.Generator, values: tuple[int, ...], count: int) -> np.ndarray:
    """Whole numbers whose percentiles, at `PERCENTILES`, are `values`."""
    return np.rint(np.interp(100 * rng.random(count), PERCENTILES, values)).astype(int)


def _words(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.integers(FIRST_WORD, VOCAB, shape)


def _random_queries(rng: np.random.Generator, lengths, predictions) -> MaskedQueries:
    at, lengths = np.arange(QUERY_LEN), np.asarray(lengths)[:, None]
    size = len(lengths)
    words, mask = _words(rng, (size, QUERY_LEN)), at < lengths
    positions, targets = np.zeros((2, size, MASKS), np.int32)
    weights = np.zeros((size, MASKS), np.float32)
    for row, (length, count) in enumerate(zip(lengths[:, 0], predictions, strict=True)):
        chosen = 1 + rng.permutation(length - 2)[:count]
        positions[row, : len(chosen)], targets[row, : len(chosen)] = chosen, words[row, chosen]
        weights[row, : len(chosen)] = 1
        words[row, chosen] = MASK
    ids = np.where(at == 0, CLS, np.where(at == lengths - 1, SEP, words)) * mask
    query = Tokens(ids.astype(np.int32), mask, np.zeros_like(ids, np.int32))
    hashes, sources = np.zeros(size, np.uint64), np.zeros(size, np.int64)
    return MaskedQueries(query, positions, targets, weights, hashes, sources)


def _oracle_arrays(queries: MaskedQueries, candidates: np.ndarray, corpus: RandomBlocks) -> dict[str, np.ndarray]:
    """Every candidate at full length, the null block first; labels of -100 where nothing is predicted."""
    blocks = corpus.embedder_tokens(np.pad(candidates, ((0, 0), (1, 0)), constant_values=-1), BLOCK_LEN)
    joint = joint_tokens(queries.query, blocks, QUERY_LEN + BLOCK_LEN)
    labels = np.full((len(candidates), QUERY_LEN + BLOCK_LEN), -100)
    rows, columns = np.nonzero(queries.mask_weights)
    labels[rows, queries.mask_positions[rows, columns]] = queries.mask_targets[rows, columns]
    arrays = {"labels": labels, "mlm_mask": labels >= 0}
    for name, tokens in (("query", queries.query), ("blocks", blocks), ("joint", joint)):
        arrays |= {f"{name}_ids": tokens.ids, f"{name}_mask": tokens.mask, f"{name}_types": tokens.types}
    return arrays
