"""A batch that does not divide over the devices is padded with rows that count for nothing, whoever makes them."""

import dataclasses
import functools
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_finetune import SETTINGS, joined, loss_of, noisy, slow_loss

from realm_jax import parallel, processes
from realm_jax.data.pipeline import Examples
from realm_jax.data.prepare import open_prepared
from realm_jax.data.questions import datasets
from realm_jax.records import Process
from realm_jax.training.finetune import train
from realm_jax.training.finetune_task import FinetuneTask, finetune_loss
from realm_jax.training.finetuning import Finetuning
from realm_jax.training.room import Room
from realm_jax.workdir import read_json

QUESTIONS = 20
EASY = [("river", "lake", "the"), ("of the", "north"), ("It is", "in"), ("was", "18")]


@pytest.fixture(scope="module")
def run(pretrained_run, copy_run, tmp_path_factory):
    return copy_run(pretrained_run, tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def questions(run):
    """Questions whose answers many blocks have."""
    found = datasets.load("cloze", "train", run=open_prepared(run), config=run.config)[:QUESTIONS]
    return [dataclasses.replace(q, answers=EASY[i % len(EASY)], is_regex=False) for i, q in enumerate(found)]


@pytest.fixture(scope="module")
def make(run, questions):
    """`make(batch_size, micro_batch)`: a task that trains both towers, from parameters far from their first values."""
    finetuning = Finetuning.create(run, "padded", "cloze", dataclasses.replace(SETTINGS, train_retriever="both"))
    data, first = open_prepared(run), finetuning.first_params()
    store, first = finetuning.index_store(data, first), noisy(first, 7, 0.3)

    def task(batch_size: int, micro_batch: int = 0) -> FinetuneTask:
        settings = dataclasses.replace(finetuning.config.finetune, batch_size=batch_size, micro_batch=micro_batch)
        config = dataclasses.replace(finetuning.config, finetune=settings)
        return FinetuneTask(config, data, questions, store, first, lambda params: 0.0, finetuning.folder)

    return task


def taken(task: FinetuneTask, state: dict):
    """The first batch from a state, as the devices get it, and the state after it."""
    with mock.patch.object(Room, "pack", lambda room, batch: batch):  # as it is joined
        stream = task.stream(state)
        try:
            return jax.tree.map(np.array, stream.take(parallel.replicate(task.init()))), stream.state()
        finally:
            stream.close()


@pytest.fixture(scope="module")
def assert_step_is_that_of(make):
    """`check(params, shares, rows)`: the step on eight devices has the mean gradient of these rows of its batch, each
    by itself on one device, and their metrics."""
    config = make(8)._config
    loss = functools.partial(finetune_loss, config)
    step = parallel.on_local_devices(lambda p, b: parallel.gradients(loss, p, b, jax.random.key(0)))

    def of_row(params, batch):
        total, count, metrics = finetune_loss(config, params, batch, None)
        return total, {"loss": (total, count), **metrics}

    alone = jax.jit(jax.grad(of_row, has_aux=True))

    def check(params, shares, rows):
        ours, metrics = jax.device_get(parallel.unreplicate(step(parallel.replicate(params), shares)))
        batch = joined(shares)
        singles = [jax.tree.map(lambda leaf, i=i: leaf[i : i + 1], batch) for i in rows]
        found = [alone(params, dataclasses.replace(one, weight=jnp.ones(1))) for one in singles]
        expected, expected_metrics = jax.tree.map(lambda *of_rows: np.sum(np.array(of_rows), 0), *found)
        for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(ours), jax.tree.leaves(expected), strict=True):
            mean = b / len(rows)
            assert np.linalg.norm(a - mean) < max(2e-6, 1e-5 * np.linalg.norm(mean)), jax.tree_util.keystr(path)
        for name in expected_metrics.keys() - {"tokens"}:
            assert metrics[name] == pytest.approx(expected_metrics[name], rel=1e-4), name
        assert metrics["tokens"][0] == expected_metrics["tokens"][0]

    return check


@pytest.mark.parametrize("size", [1, 3, 6])
def test_padding_changes_neither_gradient_nor_metrics(make, assert_step_is_that_of, size):
    task = make(size)
    shares, _ = taken(task, {})
    batch = joined(shares)
    assert batch.weight.tolist() == [1.0] * size + [0.0] * (8 - size)
    assert np.any(batch.beam_correct[:size]) and np.any(batch.correct_spans[:size])
    assert not np.any(batch.beam_mask[size:])  # nobody looks for labels there
    assert_step_is_that_of(task.init(), shares, range(size))


def test_shares_are_padded_to_whole_micro_batches(make):
    """20 questions are 3 for each of eight devices, or 2 parts of 2."""
    assert make(20).micro_batches == 1 and len(make(20).asked(0).weight) == 24
    task = make(20, micro_batch=2)
    assert task.micro_batches == 2 and task.asked(0).weight.tolist() == [1.0] * 20 + [0.0] * 12


def test_whatever_stands_in_a_row_of_weight_0_counts_for_nothing(make, assert_step_is_that_of):
    task = make(8)
    shares, _ = taken(task, {})
    batch, real = joined(shares), [0, 3, 4, 6]
    weight = np.isin(np.arange(8), real).astype(np.float32)
    retriever, readers = (np.array(losses) for losses in slow_loss(task._config, task.init(), batch))
    left_out = weight == 0
    assert (retriever[left_out] > 0.1).any() and (readers[left_out] > 0.1).any()
    weighted = dataclasses.replace(batch, weight=jnp.asarray(weight))
    total, count, metrics = loss_of(task._config, task.init(), weighted)
    assert count == 4 and total == pytest.approx((retriever + readers)[real].sum(), rel=1e-4)
    in_beam = np.asarray(batch.beam_correct).any(1)
    in_read = np.asarray(batch.correct_spans).any((1, 2))
    expected = {
        "retriever_loss": (retriever[real].sum(), in_beam[real].sum()),
        "reader_loss": (readers[real].sum(), in_read[real].sum()),
        "answer_in_beam": (in_beam[real].sum(), 4),
        "answer_in_read": (in_read[real].sum(), 4),
        "tokens": (np.asarray(batch.joint.mask)[real].sum(), 1),
    }
    assert {name: tuple(map(float, metrics[name])) for name in expected} == {
        name: pytest.approx(pair, rel=1e-4) for name, pair in expected.items()
    }
    assert_step_is_that_of(task.init(), dataclasses.replace(shares, weight=weight.reshape(8, 1)), real)


@pytest.mark.parametrize("size", [1, 3, 6, 8, 11])
@pytest.mark.parametrize("count", [1, 2, 4])
def test_every_question_once_an_epoch_in_an_order_that_knows_no_padding(make, monkeypatch, size, count):
    task, order = make(size), []
    while len(order) < QUESTIONS:
        shares = []
        for index in range(count):
            monkeypatch.setattr(processes, "this", lambda index=index: Process(index, count))
            process = make(size)
            shares.append(process.asked(len(order) // size))
        rows = -(-size // 8) * 8
        assert all(len(share.number) == len(share.weight) == rows // count for share in shares)
        number, weight = (np.concatenate([getattr(s, name) for s in shares]) for name in ("number", "weight"))
        assert weight.tolist() == [1.0] * size + [0.0] * (rows - size)
        order += number[:size].tolist()
        assert set(number[size:]) <= {number[size - 1]}
    assert sorted(order[:QUESTIONS]) == list(range(QUESTIONS))
    sequence = Examples(QUESTIONS, lambda number, rng: np.int64(number), task.seed)
    assert order == sequence.batch(0, len(order)).tolist()


@pytest.mark.parametrize("rows", [3, 4, 16])
def test_a_run_goes_on_with_other_devices_whose_padding_is_other(make, rows):
    """What a checkpoint keeps of the next batch has the rows of the devices that it was made with."""
    task = make(3)
    _, state = taken(task, {})
    candidates = np.array(state["candidates"])
    assert len(candidates) == 8
    of_others = candidates[np.minimum(np.arange(rows), 7)]
    expected, _ = taken(task, state)
    found, _ = taken(task, {**state, "candidates": of_others.tolist()})
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert found.weight.sum() == 3


def test_one_question_a_step_on_eight_devices(run, questions, capsys):
    finetuning = Finetuning.create(run, "single", "cloze", dataclasses.replace(SETTINGS, batch_size=1))
    train(finetuning, questions[:4], questions[4:6])
    assert "4 questions, 4 steps of 1 and 7 rows of padding" in capsys.readouterr().out
    assert finetuning.is_done
    evaluations = read_json(finetuning.folder / "evaluations.json")["evaluations"]
    assert [e["step"] for e in evaluations] == [2, 4]
