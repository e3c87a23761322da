"""Recall of retrieval, and intervals of means."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int, Shaped

Z_95 = 1.959964  # two-sided 95% quantile of the normal distribution


@dataclass(frozen=True)
class Mean:
    """A mean with half the width of its 95% interval (normal approximation) over n values."""

    mean: float
    half_width: float
    n: int

    @property
    def low(self) -> float:
        """Lower end of the interval."""
        return self.mean - self.half_width

    @property
    def high(self) -> float:
        """Upper end of the interval."""
        return self.mean + self.half_width

    def __str__(self) -> str:
        return f"{self.mean:.3f} ±{self.half_width:.3f}"


def mean(values: Shaped[np.ndarray, " examples"]) -> Mean:
    """Mean of one value per example. For a paired comparison, pass the differences."""
    values = np.asarray(values, np.float64)
    if not len(values):
        return Mean(float("nan"), float("nan"), 0)
    spread = values.std(ddof=1) if len(values) > 1 else 0.0
    return Mean(float(values.mean()), float(Z_95 * spread / np.sqrt(len(values))), len(values))


def hits(found: Int[np.ndarray, "batch k"], wanted: Int[np.ndarray, "batch ..."], k: int) -> Bool[np.ndarray, " batch"]:
    """Whether the wanted id, or any of several, is among the first k found. Padding of the two must differ."""
    return (found[:, :k][:, :, None] == wanted.reshape(len(wanted), 1, -1)).any(axis=(1, 2))


def first_distinct(groups: Int[np.ndarray, "batch found"], k: int) -> Int[np.ndarray, "batch k"]:
    """The first k distinct groups of each row in order of rank; -1 where there are fewer (or the group is -1).

    A passage is a group of blocks and scores as its best block, so its rank is that of its first one.
    """
    result = np.full((len(groups), k), -1, groups.dtype)
    for row, ranked in enumerate(groups):
        distinct = list(dict.fromkeys(g for g in ranked.tolist() if g >= 0))[:k]
        result[row, : len(distinct)] = distinct
    return result


def recall_table(
    found: Int[np.ndarray, "batch k"], wanted: Int[np.ndarray, "batch ..."], ks: tuple[int, ...]
) -> dict[str, Mean]:
    """recall@k for several k; arguments as in `hits`. Raises ValueError if fewer were retrieved than a k asks for."""
    if max(ks) > found.shape[1]:
        raise ValueError(f"recall@{max(ks)} of {found.shape[1]} results")
    return {f"recall@{k}": mean(hits(found, wanted, k)) for k in ks}
