"""What pre-training's own optimizer and loop do to the retriever: its rate, its warm-up, its period, from the task."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from realm_jax import parallel
from realm_jax.data.prepare import open_prepared
from realm_jax.index.index_builder import IndexBuilder
from realm_jax.index.store import IndexStore
from realm_jax.training import optimizer, phases
from realm_jax.training.pretrain_task import PretrainTask

RATE = 1e-3
PARTS = ("embedder", "encoder")


@pytest.fixture(scope="module")
def store(tiny_run, tmp_path_factory):
    """Index version 0 of the tiny run, which every task here searches."""
    data, store = open_prepared(tiny_run), IndexStore(tmp_path_factory.mktemp("index"))
    source = {"phase": "init", "step": 0}
    params = phases.first_params(tiny_run)["embedder"]
    IndexBuilder(tiny_run.config, data, store).build(0, params, embedded_by=source)
    return store


@pytest.fixture(scope="module")
def task_of(tiny_run, store):
    """Makes tasks: `task_of(retriever_update_every=3)`."""

    def make(**pretrain) -> PretrainTask:
        pretrain = dataclasses.replace(
            tiny_run.config.pretrain, steps=100, learning_rate=RATE, index_refresh_every=0, **pretrain
        )
        config = dataclasses.replace(tiny_run.config, pretrain=pretrain)
        return PretrainTask(config, open_prepared(tiny_run), store, phases.first_params(tiny_run))

    return make


def sizes_of_updates(task, steps: int) -> dict[str, list[float]]:
    """Largest entry of each step's update of a scale, which no weight decay touches, under a constant gradient.

    BERT's Adam divides by the gradient's size, hence the learning rate is the only difference between the parts.
    """
    params = {part: {"scale": np.zeros(4, np.float32)} for part in PARTS}
    gradient = jax.tree.map(lambda x: x + np.float32(0.1), params)
    transform = task.optimizer()
    state, sizes = transform.init(params), {part: [] for part in PARTS}
    update = jax.jit(transform.update)
    for _ in range(steps):
        updates, state = update(gradient, state, params)
        for part in PARTS:
            sizes[part].append(float(np.abs(updates[part]["scale"]).max()))
    return sizes


@pytest.mark.parametrize(("rate", "ratio"), [(None, 1.0), (RATE / 4, 0.25), (3 * RATE, 3.0)])
def test_the_retriever_learns_at_its_own_rate(task_of, rate, ratio):
    sizes = sizes_of_updates(task_of(retriever_learning_rate=rate), 6)
    assert sizes["encoder"][0] == 0 < min(sizes["encoder"][1:])
    np.testing.assert_allclose(sizes["embedder"], ratio * np.array(sizes["encoder"]), rtol=1e-5)


def test_the_retrievers_own_warm_up_begins_when_it_starts_to_learn(task_of):
    """It is off for 20 steps, then its rate rises from 0 as the encoder's did from step 0."""
    off, warm_up = 20, optimizer.warmup_steps(100)
    sizes = sizes_of_updates(task_of(retriever_warmup_steps=off), off + warm_up)
    assert not any(sizes["embedder"][: off + 1])
    np.testing.assert_allclose(sizes["embedder"][off:], sizes["encoder"][:warm_up], rtol=1e-5)


def test_the_control_runs_retriever_never_moves(task_of):
    sizes = sizes_of_updates(task_of(train_retriever=False), 5)
    assert not any(sizes["embedder"]) and all(sizes["encoder"][1:])


def remembered() -> optax.GradientTransformation:
    """Changes nothing; its state is the gradient that it saw last."""
    return optax.GradientTransformation(
        lambda params: jax.tree.map(jnp.zeros_like, params), lambda gradient, state, params=None: (gradient, gradient)
    )


def steps_of(task, steps: int) -> tuple[list[dict], list[dict]]:
    """The parameters before each of the loop's steps and after the last, and the steps' gradients."""
    stream, first = task.stream({}), task.init()
    transform = optax.chain(remembered(), task.optimizer())
    state = parallel.replicate(parallel.TrainState(jnp.int32(0), first, transform.init(first)))
    train_step = parallel.compiled_train_step(task.loss, transform, task.seed)
    params, gradients = [first], []
    try:
        for _ in range(steps):
            state, _ = train_step(state, stream.take(state.params))
            params.append(host(state.params))
            gradients.append(host(state.opt_state[0]))
    finally:
        stream.close()
    return params, gradients


def host(replicated):
    return jax.device_get(parallel.unreplicate(replicated))


def test_the_retriever_moves_every_nth_step_by_the_mean_of_n_gradients(task_of):
    """A run of n + 1 steps: each gradient is taken where the run was, the update is made again from their mean."""
    n = 3
    params, gradients = steps_of(task_of(retriever_update_every=n), n + 1)
    for before, after in zip(params[:n], params[1:n], strict=False):
        jax.tree.map(np.testing.assert_array_equal, before["embedder"], after["embedder"])
    jax.tree.map(np.testing.assert_array_equal, params[n]["embedder"], params[n + 1]["embedder"])
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), params[n - 1]["embedder"], params[n]["embedder"])
    assert np.mean(jax.tree.leaves(moved)) > 0.9
    encoders = [jax.tree.leaves(p["encoder"])[0] for p in params]
    assert all((a != b).any() for a, b in zip(encoders[1:], encoders[2:], strict=False))  # the rate of step 0 is 0

    clipped = [clip(gradient)["embedder"] for gradient in gradients[:n]]
    mean = jax.tree.map(lambda *g: sum(g) / n, *clipped)
    rate = RATE * (n - 1) / optimizer.warmup_steps(100)  # of the step that applies it
    expected = jax.tree_util.tree_map_with_path(
        lambda path, p, g: adam_from_zero(p, g, rate, path[-1].key), params[0]["embedder"], mean
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), params[n]["embedder"], expected)


def clip(gradient: dict) -> dict:
    """To a global norm of 1 over encoder and embedder together."""
    norm = np.sqrt(sum((leaf.astype(np.float64) ** 2).sum() for leaf in jax.tree.leaves(gradient)))
    return jax.tree.map(lambda leaf: leaf * min(1.0, 1.0 / norm), gradient)


def adam_from_zero(param, gradient, rate: float, name: str):
    """BERT's first update (no bias correction, decay of matrices alone), in NumPy."""
    m, v = 0.1 * gradient, 0.001 * gradient**2
    decay = 0.0 if name in ("scale", "bias") else 0.01 * param
    return param - rate * (m / (np.sqrt(v) + 1e-6) + decay)


def test_mask_slots_are_those_of_each_micro_batch(task_of):
    task = task_of(batch_size=32, micro_batch=2)
    stream = task.stream({})
    batch = jax.device_get(stream.take(parallel.replicate(task.init())))
    stream.close()
    assert task.micro_batches == 2
    for weights, slots in zip(batch.mask_weights, batch.mask_slots, strict=True):  # of each device
        for part, listed in zip(np.split(weights, 2), np.split(slots, 2), strict=True):
            assert listed[listed < part.size].tolist() == np.flatnonzero(part).tolist()
