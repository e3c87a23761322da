"""The reader: scores every short span of a retrieved block as the answer (Lee et al. 2019, §3; Guu et al. 2020, §3.2).

A BERT over `[CLS] question [SEP] block body [SEP]`; a span's representation is the sum of projections of its first and
last hidden state, normalised after a ReLU, as in the released code.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from realm_jax.batches import Tokens
from realm_jax.config import ModelConfig
from realm_jax.models.bert import INITIAL_STDDEV, MASKED_SCORE, Bert

SPAN_NORM_EPS = 1e-3  # of the released checkpoints; the BERT below uses 1e-12


def spans(length: int, max_width: int) -> tuple[Int[np.ndarray, " spans"], Int[np.ndarray, " spans"]]:
    """First and last position of every span of at most `max_width` positions, by width, then by start."""
    starts = [np.arange(length - width) for width in range(min(max_width, length))]
    ends = [start + width for width, start in enumerate(starts)]
    return np.concatenate(starts), np.concatenate(ends)


class SpanScorer(nn.Module):
    """Scores of spans from the hidden states of their ends."""

    config: ModelConfig

    @nn.compact
    def __call__(self, hidden: Float[Array, "batch tokens hidden"], max_width: int) -> Float[Array, "batch spans"]:
        """Scores of all spans of at most `max_width` tokens, in the order of `spans`."""
        normal = nn.initializers.truncated_normal(INITIAL_STDDEV)
        width, length = self.config.span_hidden_size, hidden.shape[1]
        both = nn.Dense(2 * width, dtype=self.config.dtype, kernel_init=normal, name="hidden")(hidden)
        first, last = both[..., :width], both[..., width:]
        # Slices by width: a gather's gradient, a scatter, took a third of the step on a CPU.
        pairs = [first[:, : length - wider] + last[:, wider:] for wider in range(min(max_width, length))]
        span = nn.relu(jnp.concatenate(pairs, axis=1))
        span = nn.LayerNorm(epsilon=SPAN_NORM_EPS, dtype=self.config.dtype, name="norm")(span)
        return nn.Dense(1, kernel_init=normal, name="score")(span)[..., 0].astype(jnp.float32)


class Reader(nn.Module):
    """BERT and span scores."""

    config: ModelConfig

    def setup(self) -> None:
        """BERT and span scorer."""
        self.bert = Bert(self.config)
        self.span = SpanScorer(self.config)

    def __call__(self, tokens: Tokens, max_width: int, deterministic: bool = True) -> Float[Array, "batch spans"]:
        """float32 scores for tokens of shape [batch, tokens]."""
        return self.span(self.bert(tokens, deterministic), max_width)


def init(config: ModelConfig, rng: PRNGKeyArray) -> dict:
    """Random parameters."""
    tokens = Tokens(jnp.zeros((1, 4), jnp.int32), jnp.ones((1, 4), bool), jnp.zeros((1, 4), jnp.int32))
    return Reader(config).init(rng, tokens, 1)["params"]


def span_scores(
    config: ModelConfig,
    params: dict,
    joint: Tokens,
    block_mask: Bool[Array, "batch blocks tokens"],
    max_width: int,
    rng: PRNGKeyArray | None = None,
) -> Float[Array, "batch blocks spans"]:
    """Scores of all spans (in the order of `spans`); a span that leaves the block's text gets `MASKED_SCORE`.

    Args:
        joint: [batch, blocks, tokens], `[CLS] question [SEP] body [SEP]`.
        block_mask: true at the body's wordpieces.
        rng: for dropout; without it there is none.
    """
    batch, blocks, length = joint.ids.shape
    starts, ends = (jnp.asarray(x) for x in spans(length, max_width))
    flat = jax.tree.map(lambda x: x.reshape(-1, length), joint)
    rngs = None if rng is None else {"dropout": rng}
    scores = Reader(config).apply({"params": params}, flat, max_width, deterministic=rng is None, rngs=rngs)
    inside = block_mask[..., starts] & block_mask[..., ends]
    return jnp.where(inside, scores.reshape(batch, blocks, -1), MASKED_SCORE)
