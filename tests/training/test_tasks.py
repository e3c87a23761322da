"""The encoder warm-up on a real batch: eight devices give the gradients of one (ICT and REALM: test_parallel.py)."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from realm_jax import parallel
from realm_jax.data.pipeline import mask_slots
from realm_jax.data.prepare import open_prepared
from realm_jax.training import phases
from realm_jax.training.ict_task import IctTask
from realm_jax.training.warmup_task import WarmupTask

RELATIVE_ERROR = 1e-5
ZERO = 2e-6
"""A gradient of a smaller norm may be rounding alone, as that of an attention key's bias is."""


@pytest.fixture(scope="module")
def run(tiny_run):
    """(config, data, parameters far from their first values)."""
    config = dataclasses.replace(
        tiny_run.config,
        ict=dataclasses.replace(tiny_run.config.ict, steps=1),
        pretrain=dataclasses.replace(
            tiny_run.config.pretrain, encoder_warmup_steps=1, encoder_warmup_batch_size=16, max_masks=4
        ),
    )
    rng = np.random.default_rng(2)
    params = jax.tree.map(lambda x: (x + rng.normal(0, 0.3, x.shape)).astype(np.float32), phases.first_params(tiny_run))
    return config, open_prepared(tiny_run), params


def first_batch(task):
    stream = task.stream({})
    try:
        return jax.tree.map(np.array, stream.take(None))
    finally:
        stream.close()


def joined(batch):
    """Undoes `parallel.shard`."""
    return jax.tree.map(lambda x: jnp.asarray(x.reshape(-1, *x.shape[2:])), batch)


def assert_same_on_eight(task, params, shares, whole):
    """Compares `parallel.gradients` over the devices with plain `jax.grad` on an axis of one."""

    def mean(params):
        total, count, metrics = jax.vmap(
            lambda batch: task.loss(params, batch, jax.random.key(0)), axis_name=parallel.AXIS
        )(jax.tree.map(lambda x: x[None], whole))
        return total[0] / count[0], {"loss": (total, count), **metrics}

    step = parallel.device_map(lambda p, b: parallel.gradients(task.loss, p, b, jax.random.key(0)))
    ours, metrics = jax.device_get(parallel.unreplicate(step(parallel.replicate(params), shares)))
    expected, expected_metrics = jax.device_get(jax.jit(jax.grad(mean, has_aux=True))(params))
    powerful = 0
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(ours), jax.tree.leaves(expected), strict=True):
        norm = np.linalg.norm(b)
        powerful += norm > ZERO
        assert np.linalg.norm(a - b) < max(ZERO, RELATIVE_ERROR * norm), jax.tree_util.keystr(path)
    assert powerful >= 0.9 * len(jax.tree.leaves(ours))
    assert metrics.keys() == expected_metrics.keys()
    for name, (total, count) in expected_metrics.items():
        if name == "tokens":  # only their sum counts
            assert metrics[name][0] == total[0]
        else:
            np.testing.assert_allclose(np.divide(*metrics[name]), total[0] / count[0], rtol=1e-4, err_msg=name)


def test_encoder_warm_up(run):
    config, data, params = run
    task = WarmupTask(config, data, params)
    shares = first_batch(task)
    shares.mask_weights[[0, 3]] = 0  # two devices without a prediction
    used = shares.mask_weights.sum((1, 2))
    assert len(set(used.tolist())) > 2, "the masks are even"
    whole = joined(shares)
    whole = dataclasses.replace(whole, mask_slots=jnp.asarray(mask_slots(np.asarray(whole.mask_weights), 1)))
    assert_same_on_eight(task, {"encoder": params["encoder"]}, shares, whole)


def test_tasks_train_their_own_part_alone(run):
    config, data, params = run
    assert list(IctTask(config, data, params).init()) == ["embedder"]
    assert list(WarmupTask(config, data, params).init()) == ["encoder"]
