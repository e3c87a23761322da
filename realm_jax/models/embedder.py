"""The retriever: f(x, z) = Embed_input(x) . Embed_doc(z) (Guu et al. 2020, §3.2).

An embedding is LayerNorm(W pool(BERT(tokens))), as in the released checkpoints (the paper leaves the LayerNorm out).
Retrieval scores are plain inner products, without a temperature. Parameters are `{"shared": tower}`, or
`{"query": tower, "block": tower}` when `config.shared_tower` is false.
"""

from typing import Any, Literal

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from realm_jax.batches import Packed, Tokens
from realm_jax.config import ModelConfig
from realm_jax.models.attention import at_least_float32
from realm_jax.models.bert import INITIAL_STDDEV, LAYER_NORM_EPS, Bert
from realm_jax.models.chunks import in_parts
from realm_jax.models.sequences import any_sequence, mean_of_each, packed

Side = Literal["query", "block"]


class Embedder(nn.Module):
    """One tower: token sequences to embeddings."""

    config: ModelConfig

    @nn.compact
    def __call__(self, tokens: Packed, deterministic: bool = True) -> Float[Array, "sequences dim"]:
        """Args: one part of sequences. The result is float32."""
        config = self.config
        normal = nn.initializers.truncated_normal(INITIAL_STDDEV)
        hidden = Bert(config, name="bert")(tokens, deterministic)
        if config.pooling == "cls":
            pooler = nn.Dense(config.hidden_size, dtype=config.dtype, kernel_init=normal, name="pooler")
            pooled = jnp.tanh(pooler(hidden.reshape(-1, config.hidden_size)[tokens.starts]))
        else:
            pooled = mean_of_each(hidden, tokens)
        # The projection of a pre-trained state keeps its geometry best when it starts as a scaled isometry.
        projection = nn.Dense(config.projection_dim, kernel_init=nn.initializers.orthogonal(), name="projection")
        gain = nn.initializers.constant(config.projection_gain)
        norm = nn.LayerNorm(epsilon=LAYER_NORM_EPS, scale_init=gain, name="projection_norm")
        embedding = norm(at_least_float32(projection(pooled)))
        return nn.Dropout(config.dropout)(embedding, deterministic)


def init(config: ModelConfig, rng: PRNGKeyArray) -> dict:
    """Random parameters of the one or two towers; two towers start equal, as a shared one would."""
    tower = Embedder(config).lazy_init(rng, any_sequence())["params"]
    return {"shared": tower} if config.shared_tower else {"query": tower, "block": jax.tree.map(jnp.copy, tower)}


def tower(params: dict, side: Side) -> Any:
    """The parameters that embed queries, or blocks."""
    return params["shared"] if "shared" in params else params[side]


def embed(
    config: ModelConfig, params: dict, side: Side, tokens: Tokens | Packed, rng: PRNGKeyArray | None = None
) -> Float[Array, "*batch dim"]:
    """Embeddings of tokens of shape [..., tokens], or of packed sequences in one axis; dropout only with `rng`."""
    variables = {"params": tower(params, side)}

    def embed_part(part, rng):
        rngs = None if rng is None else {"dropout": rng}
        return Embedder(config).apply(variables, part, deterministic=rng is None, rngs=rngs)

    embedding = in_parts(embed_part, packed(tokens), rng)
    return embedding.reshape(*tokens.ids.shape[:-1], -1) if isinstance(tokens, Tokens) else embedding


def retrieval_scores(
    query_emb: Float[Array, "batch dim"], block_emb: Float[Array, "batch candidates dim"]
) -> Float[Array, "batch candidates"]:
    """f(x, z): inner products of each query with its own candidates."""
    return jnp.einsum("bd,bkd->bk", query_emb, block_emb)


def null_block(query: Tokens | Packed) -> Tokens:
    """`[CLS] [SEP] [SEP]`, the embedder's input for the null block, as a batch of one.

    Args:
        query: `[CLS] … [SEP]` each: where the special tokens' ids are taken from.
    """
    first = jax.tree.map(lambda x: x[0], packed(query))
    ids, start = first.ids.reshape(-1), first.starts[0]
    cls, sep = ids[start], ids[start + first.lengths[0] - 1]
    ids = jnp.stack([cls, sep, sep])[None]
    return Tokens(ids, jnp.ones((1, 3), bool), jnp.array([[0, 0, 1]], jnp.int32))
