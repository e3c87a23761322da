"""The reader: scores every short span of a retrieved block as the answer (Lee et al. 2019, §3; Guu et al. 2020, §3.2).

A BERT over `[CLS] question [SEP] block body [SEP]`; a span's representation is the sum of projections of its first and
last hidden state, normalised after a ReLU, as in the released code.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from realm_jax.batches import Packed, Tokens
from realm_jax.config import ModelConfig
from realm_jax.models.attention import MASKED_SCORE
from realm_jax.models.bert import INITIAL_STDDEV, Bert
from realm_jax.models.sequences import any_sequence, packed
from realm_jax.models.span_sums import span_sums

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
    def __call__(
        self, hidden: Float[Array, "rows positions hidden"], max_width: int
    ) -> Float[Array, "rows widths positions"]:
        """float32 scores of the spans of 1, 2, … wordpieces that begin at each position.

        A span's state is normalised and multiplied with a vector, as sums over it (`span_sums`): the states themselves
        are never there. What would leave its row has a score that nobody reads.
        """
        normal = nn.initializers.truncated_normal(INITIAL_STDDEV)
        width = self.config.span_hidden_size
        both = nn.Dense(2 * width, dtype=self.config.dtype, kernel_init=normal, name="hidden")(hidden)
        # Those of a LayerNorm and of a `Dense`, and under their names.
        norm = self.param("norm", lambda key: {"scale": jnp.ones(width), "bias": jnp.zeros(width)})
        score = self.param("score", lambda key: {"kernel": normal(key, (width, 1)), "bias": jnp.zeros(1)})
        kernel = score["kernel"][:, 0]
        weights = norm["scale"] * kernel
        first, last = jnp.split(both.astype(jnp.float32), 2, axis=-1)
        sums, squares, weighted = span_sums(first, last, weights, min(max_width, hidden.shape[1]))
        mean = sums / width
        inverse_deviation = jax.lax.rsqrt(squares / width - jnp.square(mean) + SPAN_NORM_EPS)
        return inverse_deviation * (weighted - mean * weights.sum()) + norm["bias"] @ kernel + score["bias"]


class Reader(nn.Module):
    """BERT and span scores."""

    config: ModelConfig

    def setup(self) -> None:
        """BERT and span scorer."""
        self.bert = Bert(self.config)
        self.span = SpanScorer(self.config)

    def __call__(
        self, tokens: Packed, max_width: int, deterministic: bool = True
    ) -> Float[Array, "rows widths positions"]:
        """Scores of the spans of one part, as `SpanScorer` has them."""
        return self.span(self.bert(tokens, deterministic), max_width)


def init(config: ModelConfig, rng: PRNGKeyArray) -> dict:
    """Random parameters."""
    return Reader(config).lazy_init(rng, any_sequence(), 1)["params"]


def span_scores(
    config: ModelConfig,
    params: dict,
    joint: Tokens | Packed,
    block_mask: Bool[Array, "batch blocks tokens"],
    max_width: int,
    rng: PRNGKeyArray | None = None,
) -> Float[Array, "batch blocks spans"]:
    """Scores of all spans (in the order of `spans`); a span that leaves the block's text gets `MASKED_SCORE`.

    Args:
        joint: [batch, blocks, tokens], or as many packed sequences in one part: `[CLS] question [SEP] body [SEP]`.
        block_mask: true at the body's wordpieces.
        rng: for dropout; without it there is none.
    """
    batch, blocks, length = block_mask.shape
    part = jax.tree.map(lambda x: x[0], packed(joint))
    rngs = None if rng is None else {"dropout": rng}
    scores = Reader(config).apply({"params": params}, part, max_width, deterministic=rng is None, rngs=rngs)
    scores = _of_each(scores, part.starts, length).reshape(batch, blocks, -1)
    starts, ends = (jnp.asarray(x) for x in spans(length, max_width))
    return jnp.where(block_mask[..., starts] & block_mask[..., ends], scores, MASKED_SCORE)


def _of_each(
    scores: Float[Array, "rows widths positions"], starts: Int[Array, " sequences"], length: int
) -> Float[Array, "sequences spans"]:
    """The scores of the spans in the first `length` positions of each sequence, in the order of `spans`."""
    _, widths, row_length = scores.shape
    scores = jnp.pad(scores, ((0, 0), (0, 0), (0, length)))  # a window may reach over the end of a row

    def window(start):
        return jax.lax.dynamic_slice(scores, (start // row_length, 0, start % row_length), (1, widths, length))[0]

    by_width = jax.vmap(window)(starts)
    return jnp.concatenate([by_width[:, wider, : length - wider] for wider in range(widths)], axis=1)
