"""Masking policies: which wordpieces of a sentence are hidden (Guu et al. 2020, §3.3).

REALM masks one salient span (`salient.py`); its ablation (Table 2) compares uniformly drawn wordpieces (BERT) and one
random span (SpanBERT), which are chosen here. Positions count a sentence's wordpieces from 0. What the query then looks
like is in `assembly.masked_query`: every hidden wordpiece becomes [MASK], BERT's 80/10/10 replacement is not used.
"""

import numpy as np
from jaxtyping import Int64

UNIFORM_RATE = 0.15
"""Share of wordpieces that BERT masks (Devlin et al. 2019, §3.1)."""
SPAN_STOP_RATE = 0.2
"""Parameter of the geometric distribution of span widths (Joshi et al. 2020, §3.1)."""


def choose_uniform(
    num_tokens: int, rng: np.random.Generator, *, max_masks: int, rate: float = UNIFORM_RATE
) -> Int64[np.ndarray, " masked"]:
    """Draws distinct positions uniformly, as BERT does.

    Returns:
        Sorted; as many as num_tokens * rate, rounded, at least 1 and at most max_masks and num_tokens.
    """
    count = min(max(1, round(num_tokens * rate)), max_masks, num_tokens)
    return np.sort(rng.choice(num_tokens, size=count, replace=False))


def choose_span(num_tokens: int, rng: np.random.Generator, max_width: int) -> tuple[int, int]:
    """Draws one random span, as SpanBERT does: the paper's random-span ablation follows it.

    The width is geometric with SPAN_STOP_RATE, conditioned on at most max_width (mean 3.8 of 10, close to that of a
    salient span, where a uniform width would average 5.5); the start is uniform over the places where it fits.

    Returns:
        (start, limit) with 0 <= start < limit <= num_tokens.
    """
    widths = np.arange(1, min(max_width, num_tokens) + 1)
    weights = (1 - SPAN_STOP_RATE) ** widths
    width = int(rng.choice(widths, p=weights / weights.sum()))
    start = int(rng.integers(num_tokens - width + 1))
    return start, start + width
