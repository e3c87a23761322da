import numpy as np
import pytest

from realm_jax.index.exact import ExactSearch
from realm_jax.index.lsh import LshSearch
from realm_jax.index.search import recall_at_k, sample_queries
from tests.index.test_search import clustered


def test_one_bucket_is_exact():
    embeddings = clustered(300, 8)
    query_emb = sample_queries(embeddings, 20)
    search = LshSearch(embeddings, tables=2, bits=0)
    ids, scores = search.search(query_emb, 6)
    exact_ids, exact_scores = ExactSearch(embeddings).search(query_emb, 6)
    np.testing.assert_array_equal(ids, exact_ids)
    np.testing.assert_allclose(scores, exact_scores, rtol=1e-5)
    assert (search.share_scored == 1).all()


def test_candidates_are_the_blocks_with_an_equal_hash_in_some_table():
    embeddings = clustered(200, 6)
    query_emb = sample_queries(embeddings, 10)
    search = LshSearch(embeddings, tables=3, bits=4)
    longest = max(np.linalg.norm(embeddings, axis=1))
    for query, share in zip(query_emb, (search.search(query_emb, 5), search.share_scored)[1], strict=True):
        equal = 0
        for block in embeddings:
            lifted = np.append(block, np.sqrt(max(longest**2 - block @ block, 0)))
            signs = [
                (planes @ lifted > 0).tolist() == (planes @ np.append(query, 0) > 0).tolist()
                for planes in search._planes
            ]
            equal += any(signs)
        assert share == pytest.approx(equal / 200, abs=0.006)  # a sign may differ by rounding


def test_more_tables_find_more_and_more_bits_score_less():
    embeddings = clustered(3000, 16)
    query_emb = sample_queries(embeddings, 60)
    exact_ids, _ = ExactSearch(embeddings).search(query_emb, 5)
    found = {}
    for tables, bits in ((2, 6), (16, 6), (16, 10)):
        search = LshSearch(embeddings, tables=tables, bits=bits)
        recall = recall_at_k(search.search(query_emb, 5)[0], exact_ids)
        found[tables, bits] = recall, search.share_scored.mean()
    assert found[16, 6][0] > found[2, 6][0] and found[16, 6][0] > 0.8
    assert found[16, 10][1] < found[16, 6][1] < 0.5
    for recall, share in found.values():
        assert recall > 2 * share or recall > 0.9  # better than blocks drawn at random


def test_tombstones_and_too_few_candidates():
    embeddings = clustered(40, 8)
    live = np.zeros(40, bool)
    live[[3, 30]] = True
    ids, scores = LshSearch(embeddings, live, tables=1, bits=0).search(embeddings[:3], 4)
    assert np.isin(ids, [3, 30, -1]).all() and (ids[:, 2:] == -1).all() and np.isneginf(scores[:, 2:]).all()
    nothing = LshSearch(embeddings, np.zeros(40, bool), tables=2, bits=3).search(embeddings[:2], 3)[0]
    assert (nothing == -1).all()
    assert LshSearch(embeddings, tables=2, bits=3).search(embeddings[:0], 3)[0].shape == (0, 3)
