"""The BERT against a slow one in NumPy, and its padding."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from realm_jax.batches import Tokens
from realm_jax.config import ModelConfig
from realm_jax.data.packing import Packing
from realm_jax.models.bert import Bert, MlmHead, gelu
from realm_jax.models.sequences import alone, at_places

CONFIG = ModelConfig(
    vocab_size=60, hidden_size=16, num_layers=2, num_heads=2, intermediate_size=24, max_positions=12, dropout=0.0
)


def random_tokens(seed, *, batch=3, length=8) -> Tokens:
    """Rows of different lengths whose padding holds other ids than zero."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(3, length + 1, batch)
    lengths[0] = length
    return Tokens(
        jnp.asarray(rng.integers(0, CONFIG.vocab_size, (batch, length)), jnp.int32),
        jnp.asarray(np.arange(length) < lengths[:, None]),
        jnp.asarray(rng.integers(0, 2, (batch, length)), jnp.int32),
    )


def moved(params, seed=0):
    """The parameters away from their zeros and ones, so that none of them can be left out."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: x + jnp.asarray(rng.normal(0, 0.2, x.shape), x.dtype), params)


def slow_gelu(kind, x):
    if kind == "tanh":
        return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def slow_norm(x, p):
    x = x - x.mean(-1, keepdims=True)
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-12) * p["scale"] + p["bias"]


def slow_dense(x, p):
    return x @ p["kernel"] + p["bias"]


def slow_attention(x, p, num_heads):
    """One sequence without padding, head by head."""
    query, key, value = (slow_dense(x, p[name]) for name in ("query", "key", "value"))
    width = x.shape[-1] // num_heads
    heads = []
    for h in range(num_heads):
        part = slice(h * width, (h + 1) * width)
        scores = np.exp(query[:, part] @ key[:, part].T / math.sqrt(width))
        heads.append(scores / scores.sum(-1, keepdims=True) @ value[:, part])
    return slow_dense(np.concatenate(heads, -1), p["output"])


def slow_bert(config, params, ids, types):
    """One sequence without padding, in double precision."""
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    words, positions, kinds = (p["embeddings"][name]["embedding"] for name in ("word", "position", "type"))
    x = slow_norm(words[ids] + positions[: len(ids)] + kinds[types], p["embeddings"]["norm"])
    for i in range(config.num_layers):
        layer = p[f"layer_{i}"]
        x = slow_norm(x + slow_attention(x, layer["attention"], config.num_heads), layer["attention_norm"])
        widened = slow_gelu(config.gelu, slow_dense(x, layer["intermediate"]))
        x = slow_norm(x + slow_dense(widened, layer["output"]), layer["output_norm"])
    return x


@pytest.fixture(scope="module")
def params():
    return moved(Bert(CONFIG).init(jax.random.key(0), alone(random_tokens(0)))["params"])


@pytest.mark.parametrize("kind", ["tanh", "erf"])
def test_is_the_slow_bert_on_the_tokens_that_are_not_padding(params, kind):
    config = dataclasses.replace(CONFIG, gelu=kind)
    tokens = random_tokens(1)
    hidden = jax.jit(Bert(config).apply)({"params": params}, alone(tokens))
    assert hidden.shape == (3, 8, 16)
    for row, ids, mask, types in zip(hidden, tokens.ids, np.asarray(tokens.mask), tokens.types, strict=True):
        expected = slow_bert(config, params, np.asarray(ids)[mask], np.asarray(types)[mask])
        np.testing.assert_allclose(np.asarray(row)[mask], expected, atol=2e-5)


@pytest.mark.parametrize("is_flat", [False, True])
def test_sequences_of_one_row_do_not_know_of_each_other(params, is_flat):
    """Five of them in three rows, or in one, against the slow BERT on each alone."""
    mask = np.arange(8) < np.array([[3], [8], [4], [5], [3]])
    tokens = dataclasses.replace(jax.tree.map(np.asarray, random_tokens(6, batch=5)), mask=mask)
    packing = Packing(tokens, 1, is_flat=is_flat)
    part = jax.tree.map(lambda x: jnp.asarray(x[0]), packing.packed(packing.rows))
    assert packing.rows == (1 if is_flat else 3)
    hidden = np.asarray(jax.jit(Bert(CONFIG).apply)({"params": params}, part)).reshape(-1, CONFIG.hidden_size)
    for start, ids, mask, types in zip(part.starts, tokens.ids, tokens.mask, tokens.types, strict=True):
        expected = slow_bert(CONFIG, params, ids[mask], types[mask])
        np.testing.assert_allclose(hidden[int(start) : int(start) + mask.sum()], expected, atol=2e-5)


def test_padding_changes_nothing(params):
    """Neither more of it nor other ids in it."""
    tokens = random_tokens(2)
    bert = jax.jit(Bert(CONFIG).apply)
    before = bert({"params": params}, alone(tokens))
    wide = [(0, 0), (0, 4)]
    longer = Tokens(
        jnp.pad(jnp.where(tokens.mask, tokens.ids, 7), wide, constant_values=9),
        jnp.pad(tokens.mask, wide),
        jnp.pad(tokens.types, wide, constant_values=1),
    )
    after = bert({"params": params}, alone(longer))[:, :8]
    np.testing.assert_allclose(after[tokens.mask], before[tokens.mask], atol=1e-5)


def test_padding_gets_no_gradient(params):
    """Words that occur in the padding alone are not trained."""
    tokens = random_tokens(3)
    ids = jnp.where(tokens.mask, tokens.ids % 50, 55)

    def loss(params):
        hidden = Bert(CONFIG).apply({"params": params}, alone(Tokens(ids, tokens.mask, tokens.types)))
        return (hidden[tokens.mask] ** 3).sum()

    table = jax.jit(jax.grad(loss))(params)["embeddings"]["word"]["embedding"]
    assert not table[55].any()
    assert table[ids[0, 0]].any()


def test_dropout_only_when_asked_for(params):
    config, tokens = dataclasses.replace(CONFIG, dropout=0.5), random_tokens(4)
    still = Bert(config).apply({"params": params}, alone(tokens))
    np.testing.assert_array_equal(still, Bert(CONFIG).apply({"params": params}, alone(tokens)))
    noisy = [
        Bert(config).apply(
            {"params": params}, alone(tokens), deterministic=False, rngs={"dropout": jax.random.key(seed)}
        )
        for seed in (0, 1)
    ]
    assert not np.allclose(noisy[0], still)
    assert not np.allclose(noisy[0], noisy[1])


def test_gradient_checkpointing_gives_the_same_output_and_gradients(params):
    tokens = random_tokens(3)
    kept, computed_again = (
        Bert(dataclasses.replace(CONFIG, dropout=0.3, gradient_checkpointing=on)) for on in (False, True)
    )

    def loss(params, model):
        rngs = {"dropout": jax.random.key(1)}
        return (model.apply({"params": params}, alone(tokens), deterministic=False, rngs=rngs) ** 3).sum()

    steps = {model: str(jax.make_jaxpr(loss, static_argnums=1)(params, model)) for model in (kept, computed_again)}
    assert "remat" in steps[computed_again] and "remat" not in steps[kept]
    ours, others = (jax.jit(jax.value_and_grad(loss), static_argnums=1)(params, m) for m in (kept, computed_again))
    assert jax.tree.structure(ours) == jax.tree.structure(others)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4), ours, others)


def gradients(params, tokens, **settings):
    """(value, gradient) of a loss of all hidden states."""
    model = Bert(dataclasses.replace(CONFIG, **settings))

    def loss(params):
        rngs = {"dropout": jax.random.key(1)}
        return (model.apply({"params": params}, alone(tokens), deterministic=False, rngs=rngs) ** 3).sum()

    return jax.device_get(jax.jit(jax.value_and_grad(loss))(params))


@pytest.mark.parametrize(("dtype", "error"), [("float32", 1e-5), ("bfloat16", 0.05)])
def test_scanned_layers_give_the_same_output_and_gradients(params, dtype, error):
    plain, scanned = (gradients(params, random_tokens(3), dtype=dtype, scan_layers=on) for on in (False, True))
    assert jax.tree.structure(plain) == jax.tree.structure(scanned)
    for (path, ours), other in zip(jax.tree_util.tree_leaves_with_path(scanned), jax.tree.leaves(plain), strict=True):
        if "['key']['bias']" not in jax.tree_util.keystr(path):  # softmax does not see it
            assert np.linalg.norm(ours - other) < error * np.linalg.norm(other), jax.tree_util.keystr(path)


def test_scanned_layers_have_the_parameters_of_the_unrolled_ones():
    models = [Bert(dataclasses.replace(CONFIG, scan_layers=on)) for on in (False, True)]
    first, second = (model.init(jax.random.key(0), alone(random_tokens(0))) for model in models)
    assert jax.tree.structure(first) == jax.tree.structure(second)
    jax.tree.map(np.testing.assert_array_equal, first, second)


@pytest.mark.slow
def test_scanned_layers_are_computed_again_where_they_are_checkpointed(params):
    """With the same dropout, and without a layer's activations among what is kept."""
    kept, again = (
        gradients(params, random_tokens(3), dropout=0.3, scan_layers=True, gradient_checkpointing=on)
        for on in (False, True)
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4), again, kept)
    assert kept[0] != pytest.approx(gradients(params, random_tokens(3), scan_layers=True)[0], rel=1e-3)
    kept, again = (residual_bytes(params, scan_layers=True, gradient_checkpointing=on) for on in (False, True))
    assert again < kept / 2


def residual_bytes(params, **settings):
    """What the forward pass keeps for the backward pass."""
    model = Bert(dataclasses.replace(CONFIG, **settings))
    _, pullback = jax.vjp(lambda p: model.apply({"params": p}, alone(random_tokens(3, batch=30))), params)
    return sum(leaf.nbytes for leaf in jax.tree.leaves(pullback))


def test_scanned_layers_draw_their_own_dropout(params):
    """Every layer adds one thing alone, a row of ones of which half are dropped: two layers make four sums of it."""

    def only_ones(path, leaf):
        names = [key.key for key in path]
        return jnp.full_like(leaf, names[-1] == "scale" or names[-3:] == ["attention", "output", "bias"])

    config = dataclasses.replace(CONFIG, dropout=0.5, scan_layers=True)
    ones = jax.tree_util.tree_map_with_path(only_ones, params)
    hidden = Bert(config).apply(
        {"params": ones}, alone(random_tokens(4)), deterministic=False, rngs={"dropout": jax.random.key(0)}
    )
    assert len(np.unique(np.round(hidden[0, 0], 4))) > 2


@pytest.mark.parametrize("kind", ["tanh", "erf"])
def test_gelu(kind):
    x = np.linspace(-4, 4, 33)
    ours = gelu(dataclasses.replace(CONFIG, gelu=kind), jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(ours, slow_gelu(kind, x), atol=1e-6)


def test_mlm_head_is_tied_to_the_word_table():
    rng = np.random.default_rng(0)
    hidden, table = (jnp.asarray(rng.normal(size=(rows, 16)), jnp.float32) for rows in (5, 60))
    params = moved(MlmHead(CONFIG).init(jax.random.key(0), hidden, table)["params"])
    assert set(params) == {"transform", "norm", "bias"}
    p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)
    transformed = slow_norm(slow_gelu("tanh", slow_dense(np.asarray(hidden), p["transform"])), p["norm"])
    logits = MlmHead(CONFIG).apply({"params": params}, hidden, table)
    np.testing.assert_allclose(logits, transformed @ np.asarray(table).T + p["bias"], atol=2e-5)


def test_states_at_places_of_each_sequence():
    hidden = jnp.arange(24.0).reshape(2, 4, 3)
    gathered = at_places(hidden, jnp.array([0, 4]), jnp.array([[3, 0], [1, 1]]))
    np.testing.assert_array_equal(gathered, np.stack([hidden[0][np.array([3, 0])], hidden[1][np.array([1, 1])]]))
