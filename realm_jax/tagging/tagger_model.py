"""BERT as a tagger of named entities: a label for each word, read off its first wordpiece (Devlin et al. 2019, §5.3).

    logits = Dense(dropout(BERT(word + position + segment + casing)))

The paper's salient spans come from such a tagger (Guu et al. 2020, §3.4). An embedding of each word's casing, zero at
first, is added, since capitals tell names from other words and an uncased vocabulary drops them.
The labels of a sentence are the best sequence, so that the words of an entity agree on its type:

    argmax over y of  sum over words of  log p(y_i | sentence) + transition(y_(i-1), y_i)
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Integer, PRNGKeyArray, UInt8

from realm_jax.batches import TaggerInput, Tokens
from realm_jax.config import ModelConfig
from realm_jax.models.attention import MASKED_SCORE
from realm_jax.models.bert import INITIAL_STDDEV, Bert
from realm_jax.models.sequences import alone
from realm_jax.records import Span
from realm_jax.tagging.bio import chunks
from realm_jax.tagging.words import CASINGS, Words


class TokenClassifier(nn.Module):
    """BERT with logits of the labels at each wordpiece."""

    config: ModelConfig
    num_labels: int

    def setup(self) -> None:
        """BERT, the table of casings and the output layer."""
        config = self.config
        self.bert = Bert(config)
        self.casing = nn.Embed(
            len(CASINGS), config.hidden_size, dtype=config.dtype, embedding_init=nn.initializers.zeros
        )
        self.dropout = nn.Dropout(config.dropout)
        normal = nn.initializers.truncated_normal(INITIAL_STDDEV)
        self.label = nn.Dense(self.num_labels, dtype=config.dtype, kernel_init=normal)

    def __call__(self, sentences: TaggerInput, deterministic: bool = True) -> Float[Array, "batch tokens labels"]:
        """Logits of the labels at each wordpiece of `sentences`, whose arrays have the shape [batch, tokens]."""
        hidden = self.bert(alone(sentences.tokens), deterministic, self.casing(sentences.casings))
        return self.label(self.dropout(hidden, deterministic)).astype(jnp.float32)


def init(config: ModelConfig, num_labels: int, rng: PRNGKeyArray) -> dict:
    """Random parameters, but for the casings' embeddings, which are zero."""
    ids, mask = jax.ShapeDtypeStruct((1, 4), jnp.int32), jax.ShapeDtypeStruct((1, 4), bool)
    return TokenClassifier(config, num_labels).lazy_init(rng, TaggerInput(Tokens(ids, mask, ids), ids, mask))["params"]


def label_logits(
    config: ModelConfig, num_labels: int, params: dict, sentences: TaggerInput, rng: PRNGKeyArray | None = None
) -> Float[Array, "batch tokens labels"]:
    """Logits at every wordpiece.

    Args:
        rng: for dropout, which is off without it.
    """
    rngs = None if rng is None else {"dropout": rng}
    model = TokenClassifier(config, num_labels)
    return model.apply({"params": params}, sentences, deterministic=rng is None, rngs=rngs)


def best_labels(
    logits: Float[Array, "batch tokens labels"],
    is_first: Bool[Array, "batch tokens"],
    transitions: Float[Array, "labels_and_start labels"],
) -> UInt8[Array, "batch tokens"]:
    """The best sequence of labels over the words, by Viterbi's algorithm; each wordpiece has the label of its word.

    Args:
        is_first: true at each word's first wordpiece.
        transitions: as `bio.transition_scores` returns them.
    """
    num_labels = logits.shape[-1]
    logp = jax.nn.log_softmax(logits).swapaxes(0, 1)
    at_word = is_first.swapaxes(0, 1)[..., None]
    start = jnp.full((logits.shape[0], num_labels + 1), MASKED_SCORE).at[:, -1].set(0.0)
    same = jnp.arange(num_labels + 1)

    def forward(score, step):  # score: [batch, labels + 1] of the best sequences so far, by last label
        logp, at_word = step
        through = score[:, :, None] + transitions  # [batch, before, label]
        ended = jnp.pad(through.max(1) + logp, ((0, 0), (0, 1)), constant_values=MASKED_SCORE)
        before = jnp.pad(through.argmax(1), ((0, 0), (0, 1)))
        return jnp.where(at_word, ended, score), jnp.where(at_word, before, same)

    def backward(label, before):
        return jnp.take_along_axis(before, label[:, None], 1)[:, 0], label

    score, befores = jax.lax.scan(forward, start, (logp, at_word))
    _, labels = jax.lax.scan(backward, score.argmax(-1), befores, reverse=True)
    return labels.swapaxes(0, 1).astype(jnp.uint8)


def word_labels(words: Words, label_ids: Integer[np.ndarray, " tokens"], labels: Sequence[str]) -> list[str]:
    """The label of each word of a sentence; words that were cut off have the label of no entity.

    Args:
        label_ids: the best label at each position of `[CLS] sentence [SEP]`.
    """
    seen = len(label_ids) - 2
    return [labels[label_ids[first + 1]] if first < seen else labels[0] for first in words.firsts]


def entities(words: Words, labels: Sequence[str]) -> list[Span]:
    """The entities that the words' labels stand for, in characters of the sentence."""
    return [Span(words.starts[start], words.limits[limit - 1], kind) for start, limit, kind in chunks(labels)]
