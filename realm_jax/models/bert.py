"""The BERT encoder (Devlin et al. 2019) and its masked-language-model head.

Post-LayerNorm transformer with learned positions. Module and parameter names map one to one onto published
checkpoints (`models/pretrained.py`). It knows nothing of retrieval.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from realm_jax.batches import Packed
from realm_jax.config import ModelConfig
from realm_jax.models.attention import at_least_float32, attend

LAYER_NORM_EPS = 1e-12
INITIAL_STDDEV = 0.02

_normal = nn.initializers.truncated_normal(INITIAL_STDDEV)


def _dense(features: int, config: ModelConfig, name: str) -> nn.Dense:
    return nn.Dense(features, dtype=config.dtype, kernel_init=_normal, name=name)


def _norm(config: ModelConfig, name: str) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon=LAYER_NORM_EPS, dtype=config.dtype, name=name)


def gelu(config: ModelConfig, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """GELU, of any shape: Google's BERT uses the tanh approximation, many later checkpoints the exact one."""
    return jax.nn.gelu(x, approximate=config.gelu == "tanh")


class Embeddings(nn.Module):
    """Word, position and segment embeddings, normalised."""

    config: ModelConfig

    def setup(self) -> None:
        """The three tables."""
        config = self.config
        # Rows are taken in float32: GPUs add bfloat16 gradients to one row, such as that of padding, one by one.
        embed = functools.partial(nn.Embed, features=config.hidden_size, embedding_init=_normal)
        self.word = embed(config.vocab_size)
        self.position = embed(config.max_positions)
        self.type = embed(2)
        self.norm = nn.LayerNorm(epsilon=LAYER_NORM_EPS, dtype=config.dtype)
        self.dropout = nn.Dropout(config.dropout)

    def __call__(
        self, tokens: Packed, deterministic: bool, added: Float[Array, "rows positions hidden"] | None = None
    ) -> Float[Array, "rows positions hidden"]:
        """The normalised sum at all positions, padding too.

        Args:
            added: one more term of the sum, besides the three embeddings.
        """
        # A choice, not a gather, whose gradient would have all tokens wait for the same two rows.
        segments = jnp.where(tokens.types[..., None] == 0, *self.type.embedding)
        x = (self.word(tokens.ids) + self.position(tokens.places) + segments).astype(self.config.dtype)
        if added is not None:
            x = x + added
        return self.dropout(self.norm(x), deterministic)


class Attention(nn.Module):
    """Multi-head self-attention within each sequence."""

    config: ModelConfig

    @nn.compact
    def __call__(
        self, x: Float[Array, "tokens hidden"], part: Packed, deterministic: bool
    ) -> Float[Array, "tokens hidden"]:
        """Args: x, the positions of all rows in one axis; part, where the sequences are."""
        config = self.config
        heads = (*part.ids.shape, config.num_heads, config.hidden_size // config.num_heads)
        query = _dense(config.hidden_size, config, "query")(x).reshape(heads)
        key = _dense(config.hidden_size, config, "key")(x).reshape(heads)
        value = _dense(config.hidden_size, config, "value")(x).reshape(heads)
        is_exact = deterministic or not config.dropout or not config.attention_dropout
        rng = None if is_exact else self.make_rng("dropout")
        context = attend(query, key, value, part, rng, config.dropout).reshape(x.shape)
        return _dense(config.hidden_size, config, "output")(context)


class Layer(nn.Module):
    """One transformer block."""

    config: ModelConfig

    @nn.compact
    def __call__(self, x: Array, part: Packed, deterministic: bool) -> Array:
        """Hidden states of the same shape, [tokens, hidden]."""
        config = self.config
        dropout = nn.Dropout(config.dropout)
        attended = Attention(config, name="attention")(x, part, deterministic)
        x = _norm(config, "attention_norm")(x + dropout(attended, deterministic))
        widened = gelu(config, _dense(config.intermediate_size, config, "intermediate")(x))
        narrowed = _dense(config.hidden_size, config, "output")(widened)
        return _norm(config, "output_norm")(x + dropout(narrowed, deterministic))


class Bert(nn.Module):
    """Last hidden states of a batch of token sequences."""

    config: ModelConfig

    def setup(self) -> None:
        """Embeddings and layers, named as in the checkpoints."""
        self.embeddings = Embeddings(self.config)
        # static: `deterministic`, counted from self
        layer = nn.remat(Layer, static_argnums=(3,)) if self.config.gradient_checkpointing else Layer
        self.layers = [layer(self.config, name=f"layer_{i}") for i in range(self.config.num_layers)]

    def __call__(
        self,
        tokens: Packed,
        deterministic: bool = True,
        added: Float[Array, "rows positions hidden"] | None = None,
    ) -> Float[Array, "rows positions hidden"]:
        """Each sequence sees itself alone.

        Args:
            tokens: one part, [rows, positions].
            added: one more embedding of each token beside those of word, position and segment.
        """
        x = self.embeddings(tokens, deterministic, added)
        # Layers see a matrix of positions: on a CPU, XLA copies a 3-D input once more for each weight's gradient.
        shape = x.shape
        x = x.reshape(-1, shape[-1])
        if self.config.scan_layers and not self.is_initializing():
            return self._scanned(x, tokens, deterministic).reshape(shape)
        for layer in self.layers:
            x = layer(x, tokens, deterministic)
        return x.reshape(shape)

    def _scanned(self, x: Array, part: Packed, deterministic: bool) -> Array:
        """All layers as a loop over their stacked parameters, whose dropout is not that of the unrolled ones."""
        layer = Layer(self.config, parent=None)

        def step(x, layer_params_and_rng):
            params, rng = layer_params_and_rng
            return layer.apply({"params": params}, x, part, deterministic, rngs={"dropout": rng}), None

        if self.config.gradient_checkpointing:
            step = jax.checkpoint(step, prevent_cse=False)  # a loop's body shares nothing with its backward pass
        rng = jax.random.key(0) if deterministic else self.make_rng("dropout")
        rngs = jax.random.split(rng, self.config.num_layers)
        return jax.lax.scan(step, x, (self._stacked_layers(), rngs))[0]

    def _stacked_layers(self) -> dict:
        """The parameters of all layers, [layers, ...] each. Matrices are in the compute type, which halves the copy."""
        params = [self.variables["params"][f"layer_{i}"] for i in range(self.config.num_layers)]

        def stack(*leaves):
            return jnp.stack([leaf.astype(self.config.dtype) if leaf.ndim > 1 else leaf for leaf in leaves])

        return jax.tree.map(stack, *params)


class MlmHead(nn.Module):
    """Vocabulary logits of single positions; the output matrix is the word embedding table."""

    config: ModelConfig

    @nn.compact
    def __call__(
        self, hidden: Float[Array, "positions hidden"], word_table: Float[Array, "vocab hidden"]
    ) -> Float[Array, "positions vocab"]:
        """Logits in float32."""
        config = self.config
        x = gelu(config, _dense(config.hidden_size, config, "transform")(hidden))
        x = _norm(config, "norm")(x)
        bias = self.param("bias", nn.initializers.zeros, (config.vocab_size,))
        return at_least_float32(x @ word_table.T.astype(x.dtype)) + bias
