"""Intervals of means over questions by resampling the questions (Efron's percentile bootstrap)."""

from dataclasses import dataclass

import numpy as np
import scipy.stats
from jaxtyping import Shaped

RESAMPLES = 2000
DRAWS_AT_ONCE = 1 << 20  # bounds memory to some 20 MB, however many questions there are


@dataclass(frozen=True)
class Interval:
    """A mean with the ends of its 95% interval over n values. Not symmetric, unlike `recall.Mean`."""

    mean: float
    low: float
    high: float
    n: int


def interval(values: Shaped[np.ndarray, " questions"], *, seed: int = 0, resamples: int = RESAMPLES) -> Interval:
    """The mean of one value per question; all NaN where there is none.

    The interval of values that are all the same has no width: resampling cannot tell what it has not seen.
    """
    values = np.asarray(values, np.float64)
    if not len(values):
        return Interval(float("nan"), float("nan"), float("nan"), 0)
    mean = float(values.mean())
    if len(values) == 1:
        return Interval(mean, mean, mean, 1)
    ends = scipy.stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=resamples,
        batch=max(1, DRAWS_AT_ONCE // len(values)),
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return Interval(mean, float(ends.low), float(ends.high), len(values))


def paired(
    values_a: Shaped[np.ndarray, " questions"],
    values_b: Shaped[np.ndarray, " other_questions"],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Interval:
    """The mean of a - b, where both hold the values of the same questions in the same order.

    Raises:
        ValueError: they differ in length.
    """
    a, b = np.asarray(values_a, np.float64), np.asarray(values_b, np.float64)
    if len(a) != len(b):
        raise ValueError(f"{len(a)} and {len(b)} values are not of the same questions")
    return interval(a - b, seed=seed, resamples=resamples)
