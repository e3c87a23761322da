"""Recall and its intervals against plain counting."""

import numpy as np
import pytest

from realm_jax.scores import recall


def test_hits_count_the_first_k():
    found = np.array([[3, 1, 2], [0, 2, 5], [-1, -1, -1]])
    wanted = np.array([1, 5, 0])
    assert recall.hits(found, wanted, 1).tolist() == [False, False, False]
    assert recall.hits(found, wanted, 2).tolist() == [True, False, False]
    assert recall.hits(found, wanted, 3).tolist() == [True, True, False]


def test_a_passage_ranks_as_its_best_block():
    groups = np.array([[7, 7, 3, 7, 1], [2, -1, 2, 2, -1]])
    assert recall.first_distinct(groups, 3).tolist() == [[7, 3, 1], [2, -1, -1]]


def test_distinct_groups_against_counting():
    rng = np.random.default_rng(0)
    groups = rng.integers(-1, 6, size=(50, 12))
    for row, found in zip(groups, recall.first_distinct(groups, 4), strict=True):
        expected = []
        for group in row:
            if group >= 0 and group not in expected:
                expected.append(group)
        assert [g for g in found if g >= 0] == expected[:4]


def test_interval_of_a_rate():
    values = np.array([1] * 30 + [0] * 70)
    result = recall.mean(values)
    spread = np.sqrt(0.3 * 0.7 * 100 / 99 / 100)
    assert result.n == 100
    np.testing.assert_allclose([result.mean, result.half_width], [0.3, 1.959964 * spread], rtol=1e-6)
    np.testing.assert_allclose([result.low, result.high], [0.3 - 1.959964 * spread, 0.3 + 1.959964 * spread])


def test_nothing_has_no_mean():
    assert np.isnan(recall.mean(np.array([])).mean)


def test_table_asks_for_enough_results():
    table = recall.recall_table(np.array([[1, 2], [3, 4]]), np.array([2, 3]), (1, 2))
    assert {name: value.mean for name, value in table.items()} == {"recall@1": 0.5, "recall@2": 1.0}
    with pytest.raises(ValueError, match="recall@5"):
        recall.recall_table(np.array([[1, 2]]), np.array([2]), (1, 5))
