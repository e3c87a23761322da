"""BERT as a tagger of named entities: a label for each word, read off its first wordpiece (Devlin et al. 2019, §5.3).

    logits = Dense(dropout(BERT(word + position + segment + casing)))

The paper's salient spans come from such a tagger (Guu et al. 2020, §3.4). Small tables of casings, of a word and its
neighbours, zero at first, are added to the embeddings: lower-cased wordpieces hide what tells names from other words.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from realm_jax.config import ModelConfig
from realm_jax.data.bio import chunks
from realm_jax.data.words import CASINGS, NEIGHBOURS, Words
from realm_jax.models.bert import INITIAL_STDDEV, Bert
from realm_jax.types import Span, TaggerInput, Tokens


class TokenClassifier(nn.Module):
    """BERT with a label's logits at each wordpiece."""

    config: ModelConfig
    num_labels: int

    def setup(self) -> None:
        config = self.config
        self.bert = Bert(config)
        self.casing = nn.Embed(
            NEIGHBOURS * len(CASINGS), config.hidden_size, dtype=config.dtype, embedding_init=nn.initializers.zeros
        )
        self.dropout = nn.Dropout(config.dropout)
        normal = nn.initializers.truncated_normal(INITIAL_STDDEV)
        self.label = nn.Dense(self.num_labels, dtype=config.dtype, kernel_init=normal)

    def __call__(self, sentences: TaggerInput, deterministic: bool = True) -> Float[Array, "batch tokens labels"]:
        """Args: arrays of shape [batch, tokens]."""
        table_rows = sentences.casings + len(CASINGS) * jnp.arange(NEIGHBOURS)
        hidden = self.bert(sentences.tokens, deterministic, self.casing(table_rows).sum(-2))
        return self.label(self.dropout(hidden, deterministic)).astype(jnp.float32)


def init(config: ModelConfig, num_labels: int, rng: jax.Array) -> dict:
    """Random parameters; no casing makes a difference yet."""
    tokens = Tokens(jnp.zeros((1, 4), jnp.int32), jnp.ones((1, 4), bool), jnp.zeros((1, 4), jnp.int32))
    sentences = TaggerInput(tokens, jnp.zeros((1, 4, NEIGHBOURS), jnp.int32))
    return TokenClassifier(config, num_labels).init(rng, sentences)["params"]


def label_logits(
    config: ModelConfig, num_labels: int, params: dict, sentences: TaggerInput, rng: jax.Array | None = None
) -> Float[Array, "batch tokens labels"]:
    """Logits at every wordpiece.

    Args:
        rng: of the dropout; none without it.
    """
    rngs = None if rng is None else {"dropout": rng}
    model = TokenClassifier(config, num_labels)
    return model.apply({"params": params}, sentences, deterministic=rng is None, rngs=rngs)


def word_labels(words: Words, label_ids: np.ndarray, labels: Sequence[str]) -> list[str]:
    """The label of each word of a sentence; words that were cut off are outside.

    Args:
        label_ids: int [tokens], the best label at each position of `[CLS] sentence [SEP]`.
    """
    seen = len(label_ids) - 2
    return [labels[label_ids[first + 1]] if first < seen else labels[0] for first in words.firsts]


def entities(words: Words, labels: Sequence[str]) -> list[Span]:
    """The entities that the words' labels spell, in characters of the sentence."""
    return [Span(words.starts[start], words.limits[limit - 1], kind) for start, limit, kind in chunks(labels)]
