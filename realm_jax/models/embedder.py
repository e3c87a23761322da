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

from realm_jax.batches import Tokens
from realm_jax.config import ModelConfig
from realm_jax.models.bert import INITIAL_STDDEV, LAYER_NORM_EPS, Bert, at_least_float32

Side = Literal["query", "block"]


class Embedder(nn.Module):
    """One tower: token sequences to embeddings."""

    config: ModelConfig

    @nn.compact
    def __call__(self, tokens: Tokens, deterministic: bool = True) -> Float[Array, "batch dim"]:
        """Args: tokens of shape [batch, tokens]. The result is float32."""
        config = self.config
        normal = nn.initializers.truncated_normal(INITIAL_STDDEV)
        hidden = Bert(config, name="bert")(tokens, deterministic)
        if config.pooling == "cls":
            pooler = nn.Dense(config.hidden_size, dtype=config.dtype, kernel_init=normal, name="pooler")
            pooled = jnp.tanh(pooler(hidden[:, 0]))
        else:
            weights = tokens.mask[..., None].astype(hidden.dtype)
            pooled = (hidden * weights).sum(1) / weights.sum(1)
        # The projection of a pre-trained state keeps its geometry best when it starts as a scaled isometry.
        projection = nn.Dense(config.projection_dim, kernel_init=nn.initializers.orthogonal(), name="projection")
        gain = nn.initializers.constant(config.projection_gain)
        norm = nn.LayerNorm(epsilon=LAYER_NORM_EPS, scale_init=gain, name="projection_norm")
        embedding = norm(at_least_float32(projection(pooled)))
        return nn.Dropout(config.dropout)(embedding, deterministic)


def init(config: ModelConfig, rng: PRNGKeyArray) -> dict:
    """Random parameters of the one or two towers; two towers start equal, as a shared one would."""
    tokens = Tokens(jnp.zeros((1, 4), jnp.int32), jnp.ones((1, 4), bool), jnp.zeros((1, 4), jnp.int32))
    tower = Embedder(config).init(rng, tokens)["params"]
    return {"shared": tower} if config.shared_tower else {"query": tower, "block": jax.tree.map(jnp.copy, tower)}


def tower(params: dict, side: Side) -> Any:
    """The parameters that embed queries, or blocks."""
    return params["shared"] if "shared" in params else params[side]


def embed(
    config: ModelConfig, params: dict, side: Side, tokens: Tokens, rng: PRNGKeyArray | None = None
) -> Float[Array, "*batch dim"]:
    """Embeddings of tokens of shape [..., tokens]; dropout only if `rng` is given."""
    batch = tokens.ids.shape[:-1]
    flat = jax.tree.map(lambda x: x.reshape(-1, x.shape[-1]), tokens)
    rngs = None if rng is None else {"dropout": rng}
    variables = {"params": tower(params, side)}
    embedding = Embedder(config).apply(variables, flat, deterministic=rng is None, rngs=rngs)
    return embedding.reshape(*batch, -1)


def retrieval_scores(
    query_emb: Float[Array, "batch dim"], block_emb: Float[Array, "batch candidates dim"]
) -> Float[Array, "batch candidates"]:
    """f(x, z): inner products of each query with its own candidates."""
    return jnp.einsum("bd,bkd->bk", query_emb, block_emb)


def null_block(query: Tokens) -> Tokens:
    """`[CLS] [SEP] [SEP]`, the embedder's input for the null block, as a batch of one.

    Args:
        query: [batch, tokens], `[CLS] … [SEP]`: where the special tokens' ids are taken from.
    """
    cls, sep = query.ids[0, 0], query.ids[0, query.mask[0].sum() - 1]
    ids = jnp.stack([cls, sep, sep])[None]
    return Tokens(ids, jnp.ones((1, 3), bool), jnp.array([[0, 0, 1]], jnp.int32))
