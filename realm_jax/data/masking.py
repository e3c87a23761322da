"""Masked queries: which wordpieces of a sentence are hidden, and the query and targets that result (Guu et al., §3.3).

REALM masks one salient span (`salient.py`); its ablation (Table 2) compares uniformly drawn wordpieces (BERT) and one
random span (SpanBERT), which are chosen here. Positions count a sentence's wordpieces from 0; in the query they are one
larger, after [CLS]. Every hidden wordpiece becomes [MASK]: BERT's 80/10/10 replacement is not used.
"""

from dataclasses import dataclass

import numpy as np
import tokenizers

from realm_jax.batches import Tokens
from realm_jax.config import ConfigError

UNIFORM_RATE = 0.15
"""Share of wordpieces that BERT masks (Devlin et al. 2019, §3.1)."""
SPAN_STOP_RATE = 0.2
"""Parameter of the geometric distribution of span widths (Joshi et al. 2020, §3.1)."""


@dataclass(frozen=True)
class SpecialIds:
    """Ids of the vocabulary's special tokens."""

    cls: int
    sep: int
    mask: int
    pad: int

    @classmethod
    def from_tokenizer(cls, tokenizer: tokenizers.Tokenizer) -> "SpecialIds":
        """Looks up [CLS], [SEP], [MASK] and [PAD]. Raises ConfigError if one is missing."""
        ids = {name: tokenizer.token_to_id(f"[{name.upper()}]") for name in ("cls", "sep", "mask", "pad")}
        missing = [f"[{name.upper()}]" for name, token_id in ids.items() if token_id is None]
        if missing:
            raise ConfigError(f"the tokenizer has no {', '.join(missing)}: REALM needs a BERT vocabulary with it")
        return cls(**ids)


def choose_uniform(
    num_tokens: int, rng: np.random.Generator, *, max_masks: int, rate: float = UNIFORM_RATE
) -> np.ndarray:
    """Draws distinct positions uniformly, as BERT does.

    Returns:
        Sorted int64 [n] with n = num_tokens * rate, rounded, at least 1 and at most max_masks and num_tokens.
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


def masked_query(
    tokens: np.ndarray,
    masked: np.ndarray,
    query_len_tokens: int,
    max_masks: int,
    ids: SpecialIds,
) -> tuple[Tokens, np.ndarray, np.ndarray, np.ndarray]:
    """Builds the query `[CLS] masked sentence [SEP]` and what is to be predicted in it.

    Args:
        tokens: uint16 [n], wordpieces of the sentence; those that do not fit in the query are cut.
        masked: sorted int [m] with m >= 1, the positions that become [MASK]; the first max_masks are predicted.

    Returns:
        Tokens of length query_len_tokens; mask_positions int32 [max_masks], in the query; mask_targets int32
        [max_masks], the wordpieces that were there; mask_weights float32 [max_masks], 1 where used. Unused slots are 0.

    Raises:
        ValueError: nothing is masked, or the last masked position does not fit in query_len_tokens - 2.
    """
    body = tokens[: query_len_tokens - 2].astype(np.int32)
    if len(masked) == 0 or masked[-1] >= len(body):
        raise ValueError(f"masked positions {list(masked)} do not lie in the {len(body)} wordpieces of the query")
    predicted = masked[:max_masks]
    positions, targets = np.zeros((2, max_masks), np.int32)
    weights = np.zeros(max_masks, np.float32)
    positions[: len(predicted)] = predicted + 1
    targets[: len(predicted)] = body[predicted]
    weights[: len(predicted)] = 1
    body[masked] = ids.mask
    sequence = np.concatenate([[ids.cls], body, [ids.sep]])
    query_ids = np.full(query_len_tokens, ids.pad, np.int32)
    query_ids[: len(sequence)] = sequence
    mask = np.arange(query_len_tokens) < len(sequence)
    return Tokens(query_ids, mask, np.zeros_like(query_ids)), positions, targets, weights
