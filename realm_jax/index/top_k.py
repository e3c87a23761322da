"""The one order of results: by score, descending, and of equal scores the lower id first."""

import numpy as np
from jaxtyping import Float, Int


def top_k(
    ids: Int[np.ndarray, "batch candidates"], scores: Float[np.ndarray, "batch candidates"], k: int
) -> tuple[Int[np.ndarray, "batch k"], Float[np.ndarray, "batch k"]]:
    """The k candidates of highest score, in the order that every search promises; an id of -1 is no candidate."""
    scores = np.where(ids < 0, -np.inf, scores).astype(np.float32)
    order = np.lexsort((ids, -scores), axis=-1)[:, :k]
    scores = np.take_along_axis(scores, order, axis=1)
    ids = np.where(np.isneginf(scores), -1, np.take_along_axis(ids, order, axis=1)).astype(np.int32)
    missing = ((0, 0), (0, k - ids.shape[1]))
    return np.pad(ids, missing, constant_values=-1), np.pad(scores, missing, constant_values=-np.inf)
