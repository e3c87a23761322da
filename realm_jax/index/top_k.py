"""The one order of results: by score, descending, and of equal scores the lower id first."""

import numpy as np
from jaxtyping import Float, Int


def top_k(
    ids: Int[np.ndarray, "batch candidates"], scores: Float[np.ndarray, "batch candidates"], k: int
) -> tuple[Int[np.ndarray, "batch k"], Float[np.ndarray, "batch k"]]:
    """The k candidates of highest score, in the order that every search promises; an id of -1 is no candidate."""
    scores = np.where(ids < 0, -np.inf, scores).astype(np.float32)
    if 0 < k < scores.shape[1]:  # sorts only those that may be among the best, which is most of the time
        kth = np.partition(scores, -k, axis=1)[:, -k, None]
        most = int((scores >= kth).sum(axis=1).max(initial=k))  # k, or more where scores are equal
        places = np.argpartition(scores, -most, axis=1)[:, -most:]
        ids, scores = np.take_along_axis(ids, places, axis=1), np.take_along_axis(scores, places, axis=1)
    order = np.lexsort((ids, -scores), axis=-1)[:, :k]
    scores = np.take_along_axis(scores, order, axis=1)
    ids = np.where(np.isneginf(scores), -1, np.take_along_axis(ids, order, axis=1)).astype(np.int32)
    missing = ((0, 0), (0, k - ids.shape[1]))
    return np.pad(ids, missing, constant_values=-1), np.pad(scores, missing, constant_values=-np.inf)
