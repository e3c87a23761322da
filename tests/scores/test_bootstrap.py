"""Bootstrap intervals against a loop that resamples one question at a time, and against what is known of the truth."""

import numpy as np
import pytest

from realm_jax.scores import bootstrap, recall


def slow_interval(values, seed, resamples):
    """(low, high), one resample at a time; quantiles read off the sorted means by linear interpolation."""
    rng = np.random.default_rng(seed)
    means = sorted(
        sum(values[i] for i in rng.integers(len(values), size=len(values))) / len(values) for _ in range(resamples)
    )
    ends = []
    for share in (0.025, 0.975):
        place = share * (resamples - 1)
        below = int(place)
        ends.append(means[below] + (place - below) * (means[min(below + 1, resamples - 1)] - means[below]))
    return ends


@pytest.mark.parametrize("draws_at_once", [1, 1000, 1 << 20])
def test_against_a_loop(monkeypatch, draws_at_once):
    monkeypatch.setattr(bootstrap, "DRAWS_AT_ONCE", draws_at_once)
    values = np.random.default_rng(1).gamma(2.0, size=37)
    result = bootstrap.interval(values, seed=5, resamples=300)
    np.testing.assert_allclose([result.low, result.high], slow_interval(values.tolist(), 5, 300), rtol=1e-12)
    assert (result.mean, result.n) == (pytest.approx(values.sum() / 37), 37)


def test_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(2)
    covered = 0
    for seed in range(400):
        result = bootstrap.interval(rng.random(120) < 0.35, seed=seed, resamples=300)
        covered += result.low <= 0.35 <= result.high
    assert 0.91 <= covered / 400 <= 0.98


def test_agrees_with_the_normal_interval_of_many_questions():
    values = np.random.default_rng(3).random(10_000) < 0.2
    result, normal = bootstrap.interval(values), recall.mean(values)
    np.testing.assert_allclose([result.low, result.high], [normal.low, normal.high], atol=4e-4)


def test_pairs_of_similar_systems_differ_by_less_than_the_systems_vary():
    rng = np.random.default_rng(4)
    a = rng.random(500) < 0.5
    b = np.where(rng.random(500) < 0.1, ~a, a)
    result, alone = bootstrap.paired(a, b), bootstrap.interval(a)
    assert result.mean == pytest.approx((a.sum() - b.sum()) / 500)
    assert result.high - result.low < 0.7 * (alone.high - alone.low)
    assert bootstrap.paired(b, a).mean == -result.mean
    with pytest.raises(ValueError, match="500 and 499"):
        bootstrap.paired(a, b[1:])


def test_few_values():
    assert np.isnan(bootstrap.interval(np.array([])).mean) and bootstrap.interval(np.array([])).n == 0
    assert bootstrap.interval(np.array([True])) == bootstrap.Interval(1.0, 1.0, 1.0, 1)
    assert bootstrap.interval(np.zeros(9)) == bootstrap.Interval(0.0, 0.0, 0.0, 9)
