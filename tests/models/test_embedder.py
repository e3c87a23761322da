"""The retriever's towers: pooling, projection, one tower or two."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from realm_jax.batches import Tokens
from realm_jax.config import ModelConfig
from realm_jax.models import embedder
from realm_jax.models.bert import Bert
from realm_jax.models.sequences import alone

CONFIG = ModelConfig(
    vocab_size=60,
    hidden_size=16,
    num_layers=2,
    num_heads=2,
    intermediate_size=24,
    max_positions=12,
    projection_dim=8,
    dropout=0.0,
)


embed = jax.jit(embedder.embed, static_argnames=("config", "side"))


def random_tokens(seed, *shape) -> Tokens:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, shape[-1] + 1, shape[:-1])
    mask = np.arange(shape[-1]) < lengths[..., None]
    ids = rng.integers(0, CONFIG.vocab_size, shape)
    return Tokens(*(jnp.asarray(x) for x in (ids.astype(np.int32), mask, np.zeros(shape, np.int32))))


def random_params(config, seed=0):
    """Away from zeros and ones, so that the towers differ and no parameter can be left out."""
    rng = np.random.default_rng(seed)
    params = embedder.init(config, jax.random.key(seed))
    return jax.tree.map(lambda x: x + jnp.asarray(rng.normal(0, 0.2, x.shape), x.dtype), params)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_embedding_is_the_normalised_projection_of_the_pooled_states(pooling):
    config = dataclasses.replace(CONFIG, pooling=pooling)
    params, tokens = random_params(config), random_tokens(0, 4, 9)
    p = jax.tree.map(np.asarray, params["shared"])
    hidden = np.asarray(jax.jit(Bert(config).apply)({"params": params["shared"]["bert"]}, alone(tokens)))
    assert ("pooler" in p) == (pooling == "cls")
    if pooling == "cls":
        pooled = np.tanh(hidden[:, 0] @ p["pooler"]["kernel"] + p["pooler"]["bias"])
    else:
        pooled = np.stack([row[mask].mean(0) for row, mask in zip(hidden, np.asarray(tokens.mask), strict=True)])
    projected = pooled @ p["projection"]["kernel"] + p["projection"]["bias"]
    centred = projected - projected.mean(-1, keepdims=True)
    expected = centred / centred.std(-1, keepdims=True) * p["projection_norm"]["scale"] + p["projection_norm"]["bias"]
    np.testing.assert_allclose(embed(config, params, "query", tokens), expected, atol=2e-5)


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_padding_changes_nothing(pooling):
    config = dataclasses.replace(CONFIG, pooling=pooling)
    params, tokens = random_params(config), random_tokens(1, 3, 8)
    longer = Tokens(
        jnp.pad(tokens.ids, [(0, 0), (0, 4)], constant_values=9),
        jnp.pad(tokens.mask, [(0, 0), (0, 4)]),
        jnp.pad(tokens.types, [(0, 0), (0, 4)]),
    )
    before, after = (embed(config, params, "block", x) for x in (tokens, longer))
    np.testing.assert_allclose(after, before, atol=1e-5)


def test_leading_axes_are_kept():
    params, tokens = random_params(CONFIG), random_tokens(2, 2, 3, 7)
    together = embed(CONFIG, params, "block", tokens)
    assert together.shape == (2, 3, 8)
    one = jax.tree.map(lambda x: x[1, 2][None], tokens)
    np.testing.assert_allclose(together[1, 2], embed(CONFIG, params, "block", one)[0], atol=1e-5)


def test_two_towers_start_equal_to_one():
    two = embedder.init(dataclasses.replace(CONFIG, shared_tower=False), jax.random.key(3))
    one = embedder.init(CONFIG, jax.random.key(3))
    assert (set(one), set(two)) == ({"shared"}, {"query", "block"})
    for side in ("query", "block"):
        jax.tree.map(np.testing.assert_array_equal, two[side], one["shared"])
        assert embedder.tower(two, side) is two[side]
        assert embedder.tower(one, side) is one["shared"]


def test_each_side_uses_its_own_tower():
    config = dataclasses.replace(CONFIG, shared_tower=False)
    params, tokens = random_params(config), random_tokens(4, 2, 6)
    for side in ("query", "block"):
        alone = embed(CONFIG, {"shared": params[side]}, side, tokens)
        np.testing.assert_array_equal(embed(config, params, side, tokens), alone)
    query_emb, block_emb = (embed(config, params, side, tokens) for side in ("query", "block"))
    assert not np.allclose(query_emb, block_emb)


@pytest.mark.parametrize("shared", [True, False])
def test_gradient_of_a_score_reaches_every_tower(shared):
    config = dataclasses.replace(CONFIG, shared_tower=shared)
    params, query, blocks = random_params(config), random_tokens(5, 2, 6), random_tokens(6, 2, 3, 8)

    def score(params):
        query_emb = embed(config, params, "query", query)
        return (embedder.retrieval_scores(query_emb, embed(config, params, "block", blocks)) ** 2).sum()

    for name, tower in jax.jit(jax.grad(score))(params).items():
        assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(tower)), name


def test_scores_are_plain_inner_products():
    rng = np.random.default_rng(7)
    query_emb, block_emb = rng.normal(size=(2, 8)).astype(np.float32), rng.normal(size=(2, 3, 8)).astype(np.float32)
    expected = [[float(q @ z) for z in row] for q, row in zip(query_emb, block_emb, strict=True)]
    scores = embedder.retrieval_scores(jnp.asarray(query_emb), jnp.asarray(block_emb))
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


def test_projection_gain_bounds_the_first_scores():
    config = dataclasses.replace(CONFIG, projection_gain=0.3)
    embedding = embed(config, embedder.init(config, jax.random.key(0)), "query", random_tokens(8, 5, 9))
    np.testing.assert_allclose((embedding**2).sum(-1), 0.3**2 * config.projection_dim, rtol=1e-3)


def test_bfloat16_gives_float32_near_the_float32_embedding():
    params, tokens = random_params(CONFIG), random_tokens(9, 3, 8)
    half = embed(dataclasses.replace(CONFIG, dtype="bfloat16"), params, "query", tokens)
    assert half.dtype == jnp.float32
    np.testing.assert_allclose(half, embed(CONFIG, params, "query", tokens), atol=0.15)


def test_dropout_only_with_a_key():
    config = dataclasses.replace(CONFIG, dropout=0.5)
    params, tokens = random_params(config), random_tokens(10, 3, 8)
    still = embed(config, params, "query", tokens)
    np.testing.assert_array_equal(still, embed(CONFIG, params, "query", tokens))
    assert not np.allclose(embed(config, params, "query", tokens, jax.random.key(0)), still)
