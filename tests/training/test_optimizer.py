"""BERT's AdamW against its golden step, its schedule, and the ways to update the retriever."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from realm_jax.checkpoints import Checkpoints
from realm_jax.training.optimizer import bert_adamw, joint, retriever_optimizer, schedule

TOWERS = {
    "one tower": {"shared": {"kernel": jnp.ones((2, 2))}},
    "two towers": {"query": {"kernel": jnp.ones((2, 2))}, "block": {"kernel": jnp.full((2, 2), 2.0)}},
}


def test_one_step_without_bias_correction():
    optimizer = bert_adamw(lambda count: 1e-3)
    params = {"kernel": jnp.array([1.0])}
    updates, _ = optimizer.update({"kernel": jnp.array([0.5])}, optimizer.init(params), params)
    np.testing.assert_allclose(optax.apply_updates(params, updates)["kernel"], [0.9968279223], rtol=1e-7)


@pytest.mark.parametrize(
    "step, rate", [(0, 0), (5000, 1.5e-5), (9999, 2.9997e-5), (10_000, 2.85e-5), (100_000, 1.5e-5), (200_000, 0)]
)
def test_warm_up_overrides_a_decay_from_step_zero(step, rate):
    np.testing.assert_allclose(schedule(3e-5, 200_000)(jnp.array(step)), rate, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("every", [2, 8])
def test_an_update_has_the_rate_of_the_step_that_applies_it(every):
    single, several = schedule(3e-5, 200_000), schedule(3e-5, 200_000, every)
    for step in (every - 1, 10_000 - 1, 10_000 + every - 1, 200_000 - 1):
        np.testing.assert_allclose(several(jnp.array(step // every)), single(jnp.array(step)), rtol=1e-6)


def test_weight_decay_leaves_norms_and_biases_alone():
    optimizer = bert_adamw(lambda count: 0.1)
    params = {"kernel": jnp.ones(2), "scale": jnp.ones(2), "bias": jnp.ones(2)}
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, _ = optimizer.update(zeros, optimizer.init(params), params)
    np.testing.assert_allclose(updates["kernel"], -0.1 * 0.01, rtol=1e-6)
    assert not updates["scale"].any() and not updates["bias"].any()


def make(tower, **options):
    options = {"update_every": 1, "off_steps": 0, "train": True, **options}
    params = {"embedder": TOWERS[tower], "encoder": {"kernel": jnp.ones((2, 2))}}
    return joint(1e-2, retriever_optimizer(1e-2, 100, **options), 100), params


def gradients(params, count):
    """Small ones, so that clipping stays out of the comparison."""
    rng = np.random.default_rng(1)
    return [jax.tree.map(lambda x: jnp.asarray(rng.normal(size=x.shape) * 1e-3), params) for _ in range(count)]


def apply(optimizer, params, state, grads):
    for grad in grads:
        updates, state = optimizer.update(grad, state, params)
        params = optax.apply_updates(params, updates)
    return params, state


@pytest.mark.parametrize("tower", TOWERS)
def test_accumulated_gradients_equal_one_update_with_their_mean(tower):
    optimizer, params = make(tower, update_every=4)
    grads = gradients(params, 8)
    after, _ = apply(optimizer, params, optimizer.init(params), grads)
    mean = [jax.tree.map(lambda *g: sum(g) / 4, *grads[i : i + 4])["embedder"] for i in (0, 4)]
    plain = bert_adamw(schedule(1e-2, 100, 4))
    expected, _ = apply(plain, params["embedder"], plain.init(params["embedder"]), mean)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), after["embedder"], expected)


@pytest.mark.parametrize("tower", TOWERS)
def test_encoder_moves_each_step_while_the_retriever_waits(tower):
    optimizer, params = make(tower, update_every=4)
    state, seen = optimizer.init(params), [params]
    for grad in gradients(params, 4):
        after, state = apply(optimizer, seen[-1], state, [grad])
        seen.append(after)
    moved = [
        {part: any(jax.tree.leaves(jax.tree.map(lambda x, y: bool((x != y).any()), a[part], b[part]))) for part in a}
        for a, b in zip(seen, seen[1:], strict=False)
    ]
    assert [m["embedder"] for m in moved] == [False, False, False, True]
    assert [m["encoder"] for m in moved] == [False, True, True, True]  # the rate of step 0 is 0


def test_accumulator_survives_a_checkpoint(tmp_path):
    optimizer, params = make("one tower", update_every=4)
    grads = gradients(params, 8)
    unbroken, _ = apply(optimizer, params, optimizer.init(params), grads)
    half, state = apply(optimizer, params, optimizer.init(params), grads[:6])
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(6, half, state, {"position": 6})
        checkpoints.wait()
        half, state, _ = checkpoints.restore(6, half, state)
    resumed, _ = apply(optimizer, half, state, grads[6:])
    jax.tree.map(np.testing.assert_array_equal, resumed, unbroken)


def test_retriever_is_off_at_first():
    optimizer, params = make("one tower", off_steps=3)
    state, grads = optimizer.init(params), gradients(params, 5)
    early, state = apply(optimizer, params, state, grads[:3])
    np.testing.assert_array_equal(early["embedder"]["shared"]["kernel"], params["embedder"]["shared"]["kernel"])
    late, _ = apply(optimizer, early, state, grads[3:])
    assert (late["embedder"]["shared"]["kernel"] != early["embedder"]["shared"]["kernel"]).all()


@pytest.mark.parametrize("every", [1, 2])
def test_nothing_of_the_first_steps_is_remembered(every):
    optimizer, params = make("two towers", off_steps=4, update_every=every)
    grads = gradients(params, 10)
    after, _ = apply(optimizer, params, optimizer.init(params), grads)
    alone = retriever_optimizer(1e-2, 100, update_every=every, off_steps=0, train=True)
    later = [grad["embedder"] for grad in grads[4:]]
    expected, _ = apply(alone, params["embedder"], alone.init(params["embedder"]), later)
    assert not np.array_equal(expected["query"]["kernel"], params["embedder"]["query"]["kernel"])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), after["embedder"], expected)


def test_a_late_start_ends_with_the_others():
    late, on_time = schedule(1e-2, 100, first=40), schedule(1e-2, 100)
    for step in (50, 60, 99):  # after both warm-ups
        np.testing.assert_allclose(late(jnp.array(step - 40)), on_time(jnp.array(step)), rtol=1e-6)
    assert late(jnp.array(60)) == 0 and late(jnp.array(5)) == on_time(jnp.array(5))


def test_one_clipping_over_retriever_and_encoder():
    optimizer, params = make("one tower")
    large = jax.tree.map(lambda x: jnp.full_like(x, 3.0), params)  # of norm 3 * sqrt(8), clipped to 1
    clipped = jax.tree.map(lambda x: x / (3 * np.sqrt(8)), large)
    small = gradients(params, 1)
    one, _ = apply(optimizer, params, optimizer.init(params), [large, *small])
    other, _ = apply(optimizer, params, optimizer.init(params), [clipped, *small])
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-6), one, other)


def test_frozen_retriever_never_moves():
    optimizer, params = make("two towers", train=False)
    after, _ = apply(optimizer, params, optimizer.init(params), gradients(params, 5))
    jax.tree.map(np.testing.assert_array_equal, after["embedder"], params["embedder"])
    assert (after["encoder"]["kernel"] != params["encoder"]["kernel"]).all()
