"""Retrieval while training: no trivial candidates, the same batches after a restart, and what an old index means."""

import json
import os
import shutil
import signal
import threading
import time

import jax
import numpy as np
import pytest

from realm_jax import parallel, signals
from realm_jax.config import ConfigError, RunError
from realm_jax.data.corpus_writer import build
from realm_jax.data.prepare import open_prepared, prepare
from realm_jax.index.current import CurrentIndex
from realm_jax.index.index_builder import IndexBuilder
from realm_jax.index.source_block import drop_source
from realm_jax.index.store import IndexStore
from realm_jax.records import Record, Span
from realm_jax.training import phases
from realm_jax.training.pretrain_task import PretrainTask
from realm_jax.workdir import Workdir
from tests.damage import flip_a_bit


class Run:
    """A prepared run with index version 0 and the streams that a trainer would make."""

    def __init__(self, workdir):
        self.config, self.data = workdir.config, open_prepared(workdir)
        self.store = IndexStore(workdir.index_folder)
        self.params = phases.first_params(workdir)
        self.task = PretrainTask(self.config, self.data, self.store, self.params)
        if self.store.latest() is None:
            self.publish(0, self.params)

    def publish(self, step, params):
        return IndexBuilder(self.config, self.data, self.store).build(step, params["embedder"])

    def index(self):
        return CurrentIndex(self.store, self.data.knowledge, self.config, 0)


@pytest.fixture(scope="module")
def first_index(tiny_run, tmp_path_factory):
    """Index version 0 of the tiny run with exact search, built once."""
    workdir = Workdir(tmp_path_factory.mktemp("first"), tiny_run.config)
    for file in (tiny_run.config_file, tiny_run.tokenizer_file, tiny_run.knowledge_folder):
        os.symlink(file, workdir.path / file.name)
    Run(workdir)
    return workdir.index_folder


@pytest.fixture
def exact_run(new_run, first_index):
    """Makes runs with that version: `exact_run(max_age_steps=5)`."""

    def make(**index_fields) -> Run:
        workdir = new_run(index=index_fields)
        shutil.copytree(first_index, workdir.index_folder)
        return Run(workdir)

    return make


def noisy(params, seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: x + 0.1 * rng.standard_normal(x.shape).astype(x.dtype), params)


def test_own_block_is_dropped_and_the_others_keep_their_order(tiny_run):
    knowledge = open_prepared(tiny_run).knowledge
    found = np.array([[5, 9, 3, 7], [1, 2, 3, 4], [8, -1, 6, -1]])
    hashes = knowledge.block_hashes(np.array([3, 30, 6]))
    dropped = drop_source(found, hashes, knowledge)
    assert dropped.tolist() == [[5, 9, 7, -1], [1, 2, 3, 4], [8, -1, -1, -1]]


def test_own_block_is_known_by_its_text_in_another_corpus(tiny_run, tmp_path):
    text = open_prepared(tiny_run)
    records = [Record("other", "Other", "Something else is here."), Record("x", "Twin", "Paris is old. It is big.")]
    arguments = {"tokenizer": text.tokenizer, "tag": _no_spans, "block_len_tokens": 48}
    description = {"source": "s", "fingerprint": "f", "tagger": "t"}
    first = build(records[1:], tmp_path / "x", description=description, **arguments)
    twice = [*records, Record("copy", "Twin", "Paris is old. It is big.")]  # the same text under two more ids
    knowledge = build(twice, tmp_path / "z", description=description, **arguments)
    dropped = drop_source(np.array([[1, 0, 2]]), first.block_hashes(np.array([0])), knowledge)
    assert dropped.tolist() == [[0, -1, -1]]


def _no_spans(sentences: list[str], title: str) -> list[list[Span]]:
    return [[] for _ in sentences]


def take(stream, params, number):
    return [jax.device_get(stream.take(params)) for _ in range(number)]


def test_a_restored_stream_gives_the_same_batches(exact_run):
    run = exact_run()
    before, after = (parallel.replicate(noisy(run.params, seed)) for seed in (1, 2))
    stream = run.task.stream({})
    take(stream, before, 3)
    state = stream.state()
    expected = take(stream, after, 3)
    stream.close()
    resumed = run.task.stream(state)
    found = take(resumed, after, 3)
    assert resumed.state()["position"] == 6
    resumed.close()
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def test_a_stream_that_took_nothing_starts_from_the_first_batch(exact_run):
    run = exact_run()
    params = parallel.replicate(run.params)
    first = run.task.stream({})
    state = first.state()
    assert state == {"position": 0}
    expected = take(first, params, 1)
    first.close()
    second = run.task.stream(state)
    jax.tree.map(np.testing.assert_array_equal, take(second, params, 1), expected)
    second.close()


@pytest.mark.parametrize("file", ["embeddings.npy", "manifest.json"])
def test_a_damaged_version_is_set_aside_and_the_one_before_used(exact_run, capsys, monkeypatch, file):
    run = exact_run()
    flip_a_bit(run.publish(7, noisy(run.params, 3)).folder / file)
    stream = run.task.stream({})
    params = parallel.replicate(run.params)
    take(stream, params, 1)
    assert stream.metrics()["index_step"] == 0  # at the start
    with monkeypatch.context() as patch:  # else it may be loaded before it is damaged
        looks = threading.Event()
        patch.setattr(CurrentIndex, "_next", lambda self, known: looks.set())
        assert looks.wait(10)
        flip_a_bit(run.publish(8, noisy(run.params, 4)).folder / file)
    _wait(lambda: "damaged" in [e["event"] for e in run.store.history() if e["step"] == 8])
    take(stream, params, 1)
    assert stream.metrics()["index_step"] == 0  # and later
    run.publish(9, noisy(run.params, 5))
    _wait(lambda: take(stream, params, 1) and stream.metrics()["index_step"] == 9)
    stream.close()
    assert capsys.readouterr().out.count("it is set aside") == 2
    run.store.prune(1)
    assert len(list(run.store.folder.glob("*/manifest.damaged"))) == 2  # for a look at them


def test_a_newer_version_is_adopted_and_recorded(exact_run):
    run = exact_run()
    stream = run.task.stream({})
    params = parallel.replicate(run.params)
    take(stream, params, 1)
    assert stream.metrics()["index_step"] == 0
    run.publish(7, noisy(run.params, 3))
    _wait(lambda: take(stream, params, 1) and stream.metrics()["index_step"] == 7)
    metrics = stream.metrics()
    assert metrics["index_age_steps"] == stream.state()["position"] - 7
    assert set(metrics) == {
        "index_step",
        "index_age_steps",
        "index_age_seconds",
        "fill",
        "retrieval_wait_seconds",
        "index_wait_seconds",
    }
    stream.close()
    adopted = [(e["step"], e["trainer_step"]) for e in run.store.history() if e["event"] == "adopted"]
    assert [step for step, _ in adopted] == [0, 7] and adopted[0][1] == 0 < adopted[1][1]
    assert run.store.prune(1) and [v.step for v in run.store.versions()] == [7]  # nothing stays pinned


def _wait(condition, seconds=30.0):
    event = threading.Event()
    for _ in range(int(seconds / 0.1)):
        if condition():
            return
        event.wait(0.1)
    raise AssertionError("did not happen in time")


def test_an_old_index_is_only_warned_of(exact_run, capsys):
    index = exact_run(max_age_steps=5, max_age_policy="warn").index()
    assert index.adopt(5) is False and index.adopt(50) is False
    index.close()
    warning = "the index is 50 steps old at step 50 (limit 5): is the builder running?"
    assert capsys.readouterr().out.count(warning) == 1


def test_policy_stop_ends_the_run(exact_run):
    index = exact_run(max_age_steps=5, max_age_policy="stop").index()
    assert index.adopt(5) is False
    with pytest.raises(RunError, match=r"6 steps old at step 6 \(limit 5\): start the builder"):
        index.adopt(6)
    index.close()


def test_policy_pause_waits_for_a_version_that_is_young_enough(exact_run):
    run = exact_run(max_age_steps=5, max_age_policy="pause")
    index = run.index()
    timer = threading.Timer(0.5, run.publish, (4, run.params))
    timer.start()
    assert index.adopt(9) is True
    assert index.loaded.version.step == 4
    timer.join()
    index.close()


def test_policy_pause_has_a_deadline(exact_run):
    run = exact_run(max_age_steps=5, max_age_policy="pause", wait_timeout_s=0.3)
    index = run.index()
    with pytest.raises(RunError, match="no newer one came in 0 s: start the builder"):
        index.adopt(6)
    index.close()


def test_a_signal_ends_the_pause(exact_run, monkeypatch):
    index = exact_run(max_age_steps=5, max_age_policy="pause").index()
    threading.Timer(0.3, monkeypatch.setattr, (signals, "flagged", signal.SIGTERM)).start()
    started = time.monotonic()
    with pytest.raises(signals.Ended):
        index.adopt(6)
    assert time.monotonic() - started < 2
    index.close()


def test_no_version_and_versions_of_another_search_are_errors(exact_run, new_run):
    run = exact_run()
    with pytest.raises(ConfigError, match="no index version in .*: run realm builder"):
        CurrentIndex(IndexStore(run.store.folder / "none"), run.data.knowledge, run.config, 0)
    other = new_run("other", index={"search": "lsh"}).config
    with pytest.raises(ConfigError, match="built for index.search=exact, the config says lsh"):
        CurrentIndex(run.store, run.data.knowledge, other, 0)


@pytest.mark.parametrize("search", ["exact", "scann", "lsh"])
def test_each_search_trains(new_run, search):
    from realm_jax.training import pretrain

    workdir = new_run(index={"search": search})
    data = prepare(workdir)
    pretrain.train(workdir, data)
    assert workdir.is_done("pretrain")
    assert [version.step for version in IndexStore(workdir.index_folder).versions()] == [0, 2, 4]
    lines = (workdir.phase("pretrain") / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 2 and all('"loss": ' in line and "null" not in line.split('"loss": ')[1][:4] for line in lines)
    assert all(json.loads(line)["tokens_per_second"] > 0 for line in lines)
    pretrain.train(workdir, data)  # done: nothing more to do
    first, last = phases.first_params(workdir), phases.last_params(workdir, "pretrain")
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), first, last)
    assert any(jax.tree.leaves(moved["embedder"])) and any(jax.tree.leaves(moved["encoder"]))
