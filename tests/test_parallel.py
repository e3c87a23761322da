"""Eight fake devices give the same gradients as one, with uneven masks, for every step; and where gradients flow."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from realm_jax import config as config_lib
from realm_jax import parallel
from realm_jax.batches import IctBatch, PretrainBatch, Tokens
from realm_jax.data.assembly import mask_slots
from realm_jax.models import embedder, knowledge_encoder, realm
from realm_jax.training.ict_task import ict_loss
from realm_jax.training.pretrain_task import realm_loss

CLS, SEP, VOCAB = 2, 3, 60
BATCH, CANDIDATES, MASKS = 16, 4, 3
QUERY, BLOCK, JOINT = 8, 10, 18
RELATIVE_ERROR = 2e-5
ZERO = 2e-6
"""A gradient of a smaller norm may be rounding alone."""


def tiny(*, shared=True, **pretrain) -> config_lib.Config:
    model = config_lib.ModelConfig(
        vocab_size=VOCAB,
        hidden_size=16,
        num_layers=2,
        num_heads=2,
        intermediate_size=24,
        max_positions=JOINT,
        projection_dim=8,
        dropout=0.0,
        pooling="mean",
        shared_tower=shared,
    )
    return config_lib.Config(model=model, pretrain=config_lib.PretrainConfig(**pretrain))


def random_params(config):
    """Far from their first values: embeddings of almost equal inputs would leave gradients of little but rounding."""
    rng = np.random.default_rng(2)
    keys = jax.random.split(jax.random.key(0))
    params = {
        "embedder": embedder.init(config.model, keys[0]),
        "encoder": knowledge_encoder.init(config.model, keys[1]),
    }
    return jax.tree.map(lambda x: x + rng.normal(0, 0.3, x.shape).astype(np.float32), params)


def random_tokens(rng, lengths, width) -> Tokens:
    """`[CLS] … [SEP]` of the given lengths, padded."""
    mask = np.arange(width) < lengths[..., None]
    ids = rng.integers(5, VOCAB, mask.shape)
    ids[..., 0] = CLS
    np.put_along_axis(ids, lengths[..., None] - 1, SEP, -1)
    types = mask & (np.arange(width) >= 4)
    return Tokens((ids * mask).astype(np.int32), mask, types.astype(np.int32))


def with_null(query: Tokens) -> Tokens:
    """`[CLS] query [SEP] [SEP]`, one place wider than the query."""
    lengths = query.mask.sum(-1)
    ids, types = np.pad(query.ids, [(0, 0), (0, 1)]), np.pad(query.types * 0, [(0, 0), (0, 1)])
    np.put_along_axis(ids, lengths[:, None], SEP, 1)
    np.put_along_axis(types, lengths[:, None], 1, 1)
    return Tokens(ids, np.arange(ids.shape[1]) <= lengths[:, None], types)


def random_pretrain_batch(seed=0, *, devices=1) -> PretrainBatch:
    """From no prediction at all on the first two devices to three a row; some candidates do not exist."""
    rng = np.random.default_rng(seed)
    query = random_tokens(rng, rng.integers(5, QUERY + 1, BATCH), QUERY)
    used = np.array([0, 0, 0, 0, 1, 0, 3, 3, 2, 0, 3, 1, 1, 3, 0, 2])
    weights = (np.arange(MASKS) < used[:, None]).astype(np.float32)
    exists = rng.random((BATCH, CANDIDATES)) < 0.8
    exists[:, 0] = True
    return PretrainBatch(
        query=dataclasses.replace(query, types=query.types * 0),
        blocks=random_tokens(rng, rng.integers(5, BLOCK + 1, (BATCH, CANDIDATES - 1)), BLOCK),
        joint=random_tokens(rng, rng.integers(10, JOINT + 1, (BATCH, CANDIDATES - 1)), JOINT),
        null_joint=with_null(query),
        candidate_mask=exists,
        mask_positions=rng.integers(1, 4, (BATCH, MASKS)).astype(np.int32) * (weights > 0),
        mask_targets=rng.integers(5, VOCAB, (BATCH, MASKS)).astype(np.int32) * (weights > 0),
        mask_weights=weights,
        mask_slots=mask_slots(weights, devices),
    )


def random_ict_batch(seed=0) -> IctBatch:
    """Devices with two, one and no real rows."""
    rng = np.random.default_rng(seed)
    weight = np.ones(BATCH, np.float32)
    weight[[3, 8, 9, 12, 15]] = 0
    query = random_tokens(rng, rng.integers(4, QUERY + 1, BATCH), QUERY)
    return IctBatch(query, random_tokens(rng, rng.integers(5, BLOCK + 1, BATCH), BLOCK), weight)


def on_devices(loss, params, batch):
    """(gradients, metrics) of `parallel.gradients` over all devices."""

    def step(params, batch):
        return parallel.gradients(loss, params, batch, jax.random.key(0))

    result = parallel.on_local_devices(step)(parallel.replicate(params), parallel.shard(batch))
    return jax.device_get(parallel.unreplicate(result))


def on_one(loss):
    """`(params, batch) -> (gradients, metrics)` with plain `jax.grad` of total / count on the whole batch."""

    def mean(params, batch):
        total, count, metrics = loss(params, batch, None)
        return total / count, {"loss": (total, count), **metrics}

    gradient = jax.jit(jax.grad(mean, has_aux=True))
    return lambda params, batch: jax.device_get(gradient(params, batch))


@functools.cache
def realm_on_one(config):
    return on_one(functools.partial(realm_loss, config))


def on_an_axis_of_one(loss):
    """A loss that speaks to other devices, where there are none."""

    def alone(params, batch, rng):
        batch = jax.tree.map(lambda x: x[None], batch)
        result = jax.vmap(lambda batch: loss(params, batch, rng), axis_name=parallel.AXIS)(batch)
        return jax.tree.map(lambda x: x[0], result)

    return alone


def is_zero(name: str) -> bool:
    """Whether a leaf's gradient is zero in exact arithmetic.

    Softmax does not see what moves all its scores alike: the bias of attention keys, of all block embeddings, of spans.
    """
    of_spans = ("['span']['norm']['bias']", "['span']['score']['bias']")
    return any(part in name for part in ("['key']['bias']", "['block']['projection_norm']['bias']", *of_spans))


def assert_same(ours, expected):
    """Every leaf's relative error in norm, and the metrics."""
    errors = {}
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(ours[0]), jax.tree.leaves(expected[0]), strict=True):
        name, norm = jax.tree_util.keystr(path), np.linalg.norm(b)
        if is_zero(name):
            assert max(norm, np.linalg.norm(a)) < ZERO, name
        else:
            assert norm > 100 * ZERO, f"{name} has no gradient to compare"
            errors[name] = np.linalg.norm(a - b) / norm
    worst = max(errors, key=errors.get)
    print(f"{len(errors)} leaves, worst relative error {errors[worst]:.1e}, {worst}")
    assert errors[worst] < RELATIVE_ERROR, worst
    assert ours[1].keys() == expected[1].keys()
    for name, pair in expected[1].items():
        if name == "tokens":  # only their sum counts
            assert ours[1][name][0] == pair[0]
        else:
            np.testing.assert_allclose(np.divide(*ours[1][name]), np.divide(*pair), rtol=1e-4, err_msg=name)


@pytest.fixture(autouse=True)
def eight_devices():
    assert parallel.num_devices() == 8


@pytest.mark.parametrize(
    "config",
    [
        pytest.param(tiny(shared=True, marginal="token"), id="one tower, token marginal"),
        pytest.param(tiny(shared=False, marginal="sequence"), id="two towers, sequence", marks=pytest.mark.slow),
    ],
)
def test_realm_gradients_of_eight_devices_are_those_of_one(config):
    params = random_params(config)
    ours = on_devices(functools.partial(realm_loss, config), params, random_pretrain_batch(devices=8))
    expected = realm_on_one(config)(params, random_pretrain_batch())
    assert_same(ours, expected)
    assert set(expected[0]["embedder"]) == ({"shared"} if config.model.shared_tower else {"query", "block"})


@pytest.mark.parametrize(
    ("shared", "null_weight"), [(True, 0.5), (False, 0.0)], ids=["one tower, null block", "two towers"]
)
def test_ict_gradients_of_eight_devices_are_those_of_one(shared, null_weight):
    config, batch = tiny(shared=shared), random_ict_batch()
    config = dataclasses.replace(config, ict=dataclasses.replace(config.ict, null_weight=null_weight))
    loss, params = functools.partial(ict_loss, config), {"embedder": random_params(config)["embedder"]}
    assert_same(on_devices(loss, params, batch), on_one(on_an_axis_of_one(loss))(params, batch))


def test_a_mean_of_the_devices_means_would_differ():
    """The masks are uneven enough for the comparison above to tell."""

    def loss(params, batch, rng):
        return (params * batch[0] * batch[1]).sum(), batch[1].sum(), {}

    x, weight = np.arange(16.0, dtype=np.float32), random_ict_batch().weight
    gradient, _ = on_devices(loss, np.float32(1), (x, weight))
    assert gradient == pytest.approx((x * weight).sum() / weight.sum(), rel=1e-6)
    shares = [(a @ b / max(b.sum(), 1)) for a, b in zip(x.reshape(8, 2), weight.reshape(8, 2), strict=True)]
    assert abs(gradient - np.mean(shares)) > 0.1


def test_a_batch_without_any_count_gives_zero():
    gradient, metrics = on_devices(
        lambda params, batch, rng: ((params * batch).sum() * 0, batch.sum() * 0, {}), np.float32(1), np.ones(8)
    )
    assert gradient == 0
    assert np.isnan(parallel.means(parallel.replicate(metrics))["loss"])


def test_null_block_stored_apart_equals_an_ordinary_candidate():
    """Candidate 1 is the null block as any other block would be: padded, and embedded for each query."""
    config, batch = tiny(), random_pretrain_batch(3)
    blocks, joint = (jax.tree.map(np.copy, x) for x in (batch.blocks, batch.joint))
    blocks.ids[:, 0], blocks.mask[:, 0], blocks.types[:, 0] = 0, np.arange(BLOCK) < 3, np.arange(BLOCK) == 2
    blocks.ids[:, 0, :3] = CLS, SEP, SEP
    wide = [(0, 0), (0, JOINT - QUERY - 1)]
    for field in ("ids", "mask", "types"):
        getattr(joint, field)[:, 0] = np.pad(getattr(batch.null_joint, field), wide)
    batch = jax.tree.map(jnp.asarray, dataclasses.replace(batch, blocks=blocks, joint=joint))
    read = jax.jit(lambda p, b: realm.forward(config, p, b, None))(random_params(config), batch)
    scores, logp, hits = read.scores, read.logp, read.hits
    np.testing.assert_allclose(scores[:, 0], scores[:, 1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(logp[:, 0], logp[:, 1], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(hits[:, 0], hits[:, 1])
    assert not np.allclose(scores[:, 0], scores[:, 2])
    assert not np.allclose(logp[:, 0], logp[:, 2])


def test_control_run_trains_the_encoder_alone():
    frozen, trained = (
        realm_on_one(config)(random_params(config), random_pretrain_batch())[0]
        for config in (tiny(train_retriever=False), tiny())
    )
    assert not any(leaf.any() for leaf in jax.tree.leaves(frozen["embedder"]))
    assert all(leaf.any() for leaf in jax.tree.leaves(trained["embedder"]))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), frozen["encoder"], trained["encoder"])


def test_missing_candidates_get_no_gradient():
    """Whatever stands in the places of candidates that the search did not find."""
    batch, other = random_pretrain_batch(5), random_pretrain_batch(6)
    missing = ~batch.candidate_mask[:, 1:, None]
    assert missing.any()
    changed = {
        name: dataclasses.replace(
            getattr(batch, name), ids=np.where(missing, getattr(other, name).ids, getattr(batch, name).ids)
        )
        for name in ("blocks", "joint")
    }
    before, after = (
        realm_on_one(tiny())(random_params(tiny()), b)[0] for b in (batch, dataclasses.replace(batch, **changed))
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), after, before)


def test_shard_splits_in_order_and_refuses_the_rest():
    batch = {"a": np.arange(16), "b": np.arange(32).reshape(16, 2)}
    shares = parallel.shard(batch)
    np.testing.assert_array_equal(shares["a"], np.arange(16).reshape(8, 2))
    assert shares["b"].shape == (8, 2, 2)
    with pytest.raises(ValueError, match="12 does not divide over 8 devices"):
        parallel.shard(np.zeros(12))


def test_shard_rows_pads_with_zeros():
    rows = np.arange(42.0, dtype=np.float32).reshape(21, 2)
    shards = np.asarray(parallel.shard_rows(rows))
    assert shards.shape == (8, 3, 2)
    np.testing.assert_array_equal(shards.reshape(24, 2)[:21], rows)
    np.testing.assert_array_equal(shards.reshape(24, 2)[21:], 0)
