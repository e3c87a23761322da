"""The order of training data over processes: one global order, shared out, whatever the number of processes."""

import numpy as np
import pytest

from realm_jax import processes
from realm_jax.config import ConfigError
from realm_jax.data import corpus_writer, salient
from realm_jax.data.ict_examples import IctExamples
from realm_jax.data.pipeline import Batches, Examples, MaskedSentences
from realm_jax.data.prepare import open_prepared
from realm_jax.records import Process, Record
from realm_jax.training.ict_task import IctTask
from realm_jax.training.room import Room

BATCH = 16
SEED = 3
NEW = "Marie Curie was born in Warsaw in 1867. She moved to Paris in 1891. In {year} she spoke in Brussels for a day."


@pytest.fixture(scope="module")
def data(tiny_run, copy_run, tmp_path_factory):
    """A run whose corpus has three segments, and a deleted block in the first."""
    run = copy_run(tiny_run, tmp_path_factory.mktemp("processes") / "run")
    tokenizer = open_prepared(run).tokenizer
    for part in range(2):
        records = [Record(f"new-{part}-{i}", f"Curie {i}", NEW.format(year=1900 + i) * 3) for i in range(9)]
        corpus_writer.append(records, run.knowledge_folder, tokenizer=tokenizer, tag=salient.make_tagger("rules"))
    corpus_writer.delete([2], run.knowledge_folder)
    data = open_prepared(run)
    assert len(data.text.segments) == 3
    return data


@pytest.fixture(params=["ict", "masked"])
def examples(request, data, tiny_run):
    """Makes the examples of a process; each comes with its number."""
    if request.param == "ict":
        found = IctExamples(data.text, data.special, 0.2, 24, 0.9)
    else:
        found = MaskedSentences(data.text, data.special, tiny_run.config.pretrain, 0.2)

    def numbered(number, rng):
        return np.int64(number), found.example(number, rng)

    return lambda process: Examples(len(found), numbered, SEED, process), len(found)


def leaves(batch) -> list[np.ndarray]:
    """All arrays of a batch."""
    if isinstance(batch, tuple):
        return [leaf for part in batch for leaf in leaves(part)]
    return [leaf for part in vars(batch).values() for leaf in leaves(part)] if hasattr(batch, "__dict__") else [batch]


def concatenate(parts: list) -> list[np.ndarray]:
    return [np.concatenate(columns) for columns in zip(*map(leaves, parts), strict=True)]


@pytest.mark.parametrize("count", [1, 2, 4])
def test_the_shares_are_the_global_batch_in_its_order(examples, count):
    make, size = examples
    alone = make(Process())
    processes = [make(Process(index, count)) for index in range(count)]
    for number in (0, 5, size // BATCH):  # the last one reaches into the second epoch
        expected = leaves(alone.batch(number, BATCH))
        shares = [process.batch(number, BATCH) for process in processes]
        assert all(len(leaf) == BATCH // count for share in shares for leaf in leaves(share))
        for found, whole in zip(concatenate(shares), expected, strict=True):
            np.testing.assert_array_equal(found, whole)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_padding_repeats_the_last_example_of_the_batch(examples, count):
    make, size = examples
    batches = {number: leaves(make(Process()).batch(number, 6)) for number in (0, size // 6)}
    for number, real in batches.items():
        parts = [make(Process(index, count)).batch(number, 6, 8) for index in range(count)]
        for found, expected in zip(concatenate(parts), real, strict=True):
            np.testing.assert_array_equal(found, expected[[0, 1, 2, 3, 4, 5, 5, 5]])


def follow(make, count: int, states: list[dict], batches: int) -> tuple[list[list[int]], list[dict]]:
    """Example numbers of each of the next batches of `count` processes, in global order, and the states after them."""
    processes = [make(Process(index, count)) for index in range(count)]
    streams = [
        Batches(lambda number, process=process: process.batch(number, BATCH), state)
        for process, state in zip(processes, states, strict=True)
    ]
    taken = [np.concatenate([stream.take(None)[0] for stream in streams]).tolist() for _ in range(batches)]
    after = [stream.state() for stream in streams]
    for stream in streams:
        stream.close()
    return taken, after


@pytest.mark.parametrize("counts", [(1,), (2,), (4,), (2, 4), (4, 1, 2), (1, 4)])
def test_every_epoch_has_each_example_once_whatever_the_processes(examples, counts):
    make, size = examples
    epochs = 2
    batches = -(-epochs * size // BATCH)
    cuts = np.linspace(0, batches, len(counts) + 1).astype(int)  # where a run stops and goes on with other processes
    order, state = [], {}
    for count, part in zip(counts, np.diff(cuts), strict=True):
        taken, states = follow(make, count, [state] * count, int(part))
        order += [number for batch in taken for number in batch]
        assert all(other == states[0] for other in states)
        state = states[0]
    assert state == {"position": batches}
    seen = [order[epoch * size : (epoch + 1) * size] for epoch in range(epochs)]
    assert all(sorted(epoch) == list(range(size)) for epoch in seen)
    assert seen[0] != seen[1]
    alone = [int(n) for number in range(batches) for n in make(Process()).batch(number, BATCH)[0]]
    assert order == alone


def test_a_batch_that_does_not_divide_is_an_error():
    with pytest.raises(ValueError, match="a batch of 10 does not divide over 4 processes"):
        Examples(9, lambda number, rng: np.int64(number), 0, Process(1, 4)).batch(0, 10)
    with pytest.raises(ValueError, match="a batch of 10 does not divide over 4 processes"):
        Examples(9, lambda number, rng: np.int64(number), 0, Process(1, 4)).batch(0, 8, 10)


def test_ict_makes_the_share_of_its_process(data, new_run, monkeypatch):
    run = new_run(ict={"batch_size": BATCH})

    def batch(process: Process, number: int) -> dict[str, list[np.ndarray]]:
        monkeypatch.setattr(processes, "this", lambda: process)
        monkeypatch.setattr(Room, "pack", lambda room, batch: batch)  # the room of one process knows no other's
        stream = IctTask(run.config, data, {}).stream({"position": number})
        try:
            parts = vars(stream.take(None))
        finally:
            stream.close()
        return {name: leaves(part) for name, part in parts.items()}

    whole = batch(Process(), 2)
    shares = [batch(Process(index, 2), 2) for index in range(2)]
    for name, expected in whole.items():
        for i, leaf in enumerate(expected):
            found = np.concatenate([share[name][i].reshape(-1, *leaf.shape[2:]) for share in shares])
            np.testing.assert_array_equal(found, leaf.reshape(-1, *leaf.shape[2:]))


def test_a_bad_batch_size_names_its_flag(data, new_run):
    run = new_run(ict={"batch_size": 12})
    with pytest.raises(ConfigError, match="ict.batch_size=12 does not divide over 8 devices: pass --ict.batch_size=16"):
        IctTask(run.config, data, {})


def test_one_process_is_the_first_of_1():
    assert processes.this() == Process(0, 1) == Process()
