"""When and at which rate pre-training moves the embedder, from the task's own settings."""

import jax
import numpy as np
import optax
import pytest

from realm_jax.data.prepare import open_prepared
from realm_jax.index.store import IndexStore
from realm_jax.training.pretrain_task import PretrainTask


@pytest.fixture
def task(new_run):
    """Makes tasks: `task("name", steps=20)`."""

    def make(name, **pretrain) -> PretrainTask:
        run = new_run(name, pretrain=pretrain)
        return PretrainTask(run.config.check(), open_prepared(run), IndexStore(run.index_folder), {})

    return make


def moves(task, steps) -> dict[str, list[int]]:
    """The steps at which a constant gradient moves each part, counted from 1."""
    optimizer = task.optimizer()
    params = {part: {"kernel": np.ones((2, 2), np.float32)} for part in ("embedder", "encoder")}
    grads = jax.tree.map(lambda x: 0.1 * x, params)
    state, found = optimizer.init(params), {part: [] for part in params}
    update = jax.jit(optimizer.update)
    for step in range(1, steps + 1):
        updates, state = update(grads, state, params)
        after = optax.apply_updates(params, updates)
        for part in params:
            if np.any(after[part]["kernel"] != params[part]["kernel"]):
                found[part].append(step)
        params = after
    return found


def test_a_late_retriever_moves_where_an_index_is_asked_for(task):
    period = {"retriever_update_every": 5, "retriever_warmup_steps": 5, "index_refresh_every": 5}
    made = task("late", steps=30, checkpoint_every=1000, **period)
    moved = moves(made, 25)
    assert moved["embedder"] == [10, 15, 20, 25]
    assert set(moved["embedder"]) <= {step for step in range(1, 26) if made.saves_at(step)} == {5, 10, 15, 20, 25}
    assert moved["encoder"] == list(range(2, 26))  # the first step of the warm-up has rate 0


def test_a_rate_of_zero_is_zero(task):
    zero, own = moves(task("zero", steps=20, retriever_learning_rate=0.0), 6), moves(task("own", steps=20), 6)
    assert zero["embedder"] == [] and zero["encoder"] == own["encoder"] == own["embedder"] == [2, 3, 4, 5, 6]
