import numpy as np
import pytest

from realm_jax.config import ConfigError, IndexConfig
from realm_jax.index.search import build_search_files, open_search, recall_at_k, sample_queries
from realm_jax.index.top_k import top_k


def clustered(blocks, dim, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((max(blocks // 20, 1), dim))
    return (centres[rng.integers(len(centres), size=blocks)] + 0.5 * rng.standard_normal((blocks, dim))).astype("f4")


@pytest.mark.parametrize("dead", [0.0, 0.5])
def test_searches_agree_when_they_score_every_block(tmp_path, dead):
    pytest.importorskip("scann", reason="no ScaNN wheel for this platform")
    embeddings = clustered(700, 16)
    live = np.random.default_rng(3).random(700) >= dead if dead else None
    query_emb = sample_queries(embeddings, 40)
    config = IndexConfig(scann_leaves_to_search=1.0)
    from realm_jax.index.lsh import LshSearch

    found = [
        open_search("exact", embeddings, live=live, folder=tmp_path, config=config),
        open_search("scann", embeddings, live=live, folder=tmp_path, config=config),
        LshSearch(embeddings, live, tables=1, bits=0),
    ]
    results = [search.search(query_emb, 9) for search in found]
    for ids, scores in results[1:]:
        np.testing.assert_array_equal(ids, results[0][0])
        np.testing.assert_allclose(scores, results[0][1], rtol=1e-5)
    assert live is None or live[results[0][0]].all()


def test_best_of_many_with_equal_scores_is_a_plain_sort():
    """Few different scores, so that more blocks than k are as good as the k-th."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        rows, columns, k = rng.integers(0, 5), rng.integers(0, 30), int(rng.integers(0, 12))
        ids = rng.integers(-1, 40, (rows, columns))
        scores = rng.integers(0, 4, (rows, columns)).astype(np.float32)
        top_ids, top_scores = top_k(ids, scores, k)
        for row in range(rows):
            ranked = sorted((-score, block) for score, block in zip(scores[row], ids[row], strict=True) if block >= 0)
            ranked = (ranked + [(np.inf, -1)] * k)[:k]
            assert top_ids[row].tolist() == [block for _, block in ranked]
            assert top_scores[row].tolist() == [-score for score, _ in ranked]


def test_best_sorts_and_pads():
    ids = np.array([[4, 2, -1, 9], [-1, -1, -1, -1]])
    scores = np.array([[1.0, 1.0, 7.0, 3.0], [0.0, 0.0, 0.0, 0.0]])
    top_ids, top_scores = top_k(ids, scores, 5)
    assert top_ids.tolist() == [[9, 2, 4, -1, -1], [-1] * 5]
    assert top_scores.tolist() == [[3, 1, 1, -np.inf, -np.inf], [-np.inf] * 5]


def test_recall_counts_found_ids_and_ignores_missing_ones():
    exact_ids = np.array([[1, 2, 3], [4, -1, -1]])
    assert recall_at_k(np.array([[3, 9, 1], [4, -1, -1]]), exact_ids) == 0.75
    assert recall_at_k(exact_ids, exact_ids) == 1.0


def test_build_describes_itself(tmp_path):
    embeddings = clustered(50, 8)
    assert build_search_files("exact", embeddings, tmp_path, IndexConfig()) == {}
    assert build_search_files("lsh", embeddings, tmp_path, IndexConfig(lsh_bits=3)) == {"tables": 16, "bits": 3}
    assert not list(tmp_path.iterdir())


def test_unknown_search_names_the_choices(tmp_path):
    with pytest.raises(ConfigError, match="use scann, exact or lsh"):
        open_search("faiss", clustered(5, 4), live=None, folder=tmp_path, config=IndexConfig())
