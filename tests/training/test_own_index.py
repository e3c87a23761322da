"""Versions that the trainer builds itself: which one it uses is a function of the step, also after a restart."""

import json
import os
import pathlib
import shutil
import time

import jax
import numpy as np
import pytest

from realm_jax.config import ConfigError
from realm_jax.data.prepare import open_prepared
from realm_jax.index.claims import own_pin
from realm_jax.index.current import CurrentIndex
from realm_jax.index.index_builder import IndexBuilder
from realm_jax.index.store import IndexStore
from realm_jax.training import phases, pretrain
from realm_jax.training.pretrain_task import PretrainTask
from tests.damage import flip_a_bit

STEPS, EVERY, RUNS = 5, 2, 5
SETTINGS = {
    "pretrain": {"steps": STEPS, "index_refresh_every": EVERY, "checkpoint_every": 3, "log_every": 1},
    "index": {"keep_versions": 1},
}
HISTORY = [(0, 0), (3, 2), (5, 4)]
"""(step of the trainer, version adopted): each from the step after the one that built it."""


class Killed(Exception):
    """Stands for a crash."""


def adopted(workdir) -> list[tuple[int, int]]:
    events = IndexStore(workdir.index_folder).history()
    return [(event["trainer_step"], event["step"]) for event in events if event["event"] == "adopted"]


def result(workdir) -> tuple:
    """The last parameters, and of each step the loss and the version that was used."""
    lines = (workdir.phase("pretrain") / "metrics.jsonl").read_text().splitlines()
    records = [(line["step"], line["loss"], line["index_step"]) for line in map(json.loads, lines)]
    return phases.last_params(workdir, "pretrain"), records


def assert_same(found: tuple, expected: tuple) -> None:
    jax.tree.map(np.testing.assert_array_equal, found[0], expected[0])
    assert found[1] == expected[1]


def train(workdir) -> None:
    pretrain.train(workdir, open_prepared(workdir))


@pytest.fixture
def slow_loads(monkeypatch):
    """Loading a version takes one time or another."""
    load, rng = CurrentIndex._load, np.random.default_rng(0)

    def slowly(self, version):
        time.sleep(rng.uniform(0, 0.3))
        return load(self, version)

    monkeypatch.setattr(CurrentIndex, "_load", slowly)


@pytest.fixture(scope="module")
def unbroken(tiny_run, copy_run, tmp_path_factory):
    """The workdir of a run that nothing disturbed."""
    workdir = copy_run(tiny_run, tmp_path_factory.mktemp("own") / "run", **SETTINGS)
    train(workdir)
    return workdir


def test_a_version_is_in_use_from_the_next_step_on(unbroken):
    assert adopted(unbroken) == HISTORY
    assert [version for _, _, version in result(unbroken)[1]] == [0, 0, 2, 2, 4]


@pytest.mark.slow
def test_five_runs_are_one(unbroken, new_run, slow_loads):
    for number in range(1, RUNS):
        run = new_run(f"run-{number}", **SETTINGS)
        train(run)
        assert adopted(run) == HISTORY
        assert_same(result(run), result(unbroken))


@pytest.mark.slow
def test_a_kill_between_a_checkpoint_and_its_version_changes_nothing(unbroken, new_run, monkeypatch):
    run, build, step = new_run(**SETTINGS), PretrainTask.build_index, 4

    def killed(self, at, params):
        if at == step:
            raise Killed
        build(self, at, params)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(PretrainTask, "build_index", killed)
        train(run)
    assert IndexStore(run.index_folder).latest().step == step - EVERY
    train(run)
    assert_same(result(run), result(unbroken))
    before, after = ([event for event in HISTORY if (event[0] > step) == later] for later in (False, True))
    assert adopted(run) == [*before, (step, step - EVERY), *after]


@pytest.mark.slow
def test_a_kill_after_a_version_changes_nothing(unbroken, new_run, monkeypatch, slow_loads):
    """Before step 5, which would be the first to use it."""
    run, adopt, step = new_run(**SETTINGS), CurrentIndex.adopt, 5

    def killed(self, at):
        if at == step:
            raise Killed
        return adopt(self, at)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(CurrentIndex, "adopt", killed)
        train(run)
    train(run)
    assert_same(result(run), result(unbroken))


@pytest.fixture
def killed_run(new_run, monkeypatch):
    """A run killed before step 5; going on, it needs version 2 for the batch in flight, then version 4."""
    run, adopt = new_run(**SETTINGS), CurrentIndex.adopt

    def killed(self, at):
        if at == 5:
            raise Killed
        return adopt(self, at)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(CurrentIndex, "adopt", killed)
        train(run)
    assert [version.step for version in IndexStore(run.index_folder).versions()] == [2, 4]
    return run


@pytest.mark.parametrize(
    ("steps", "file"),
    [
        pytest.param([2], "embeddings.npy", marks=pytest.mark.slow),
        pytest.param([4], "embeddings.npy", marks=pytest.mark.slow),
        ([2, 4], "embeddings.npy"),
        pytest.param([2, 4], "manifest.json", marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_a_damaged_version_is_built_again(unbroken, killed_run, capsys, steps, file):
    store = IndexStore(killed_run.index_folder)
    damaged = [version for version in store.versions() if version.step in steps]
    for version in damaged:
        flip_a_bit(version.folder / file)
    train(killed_run)
    assert_same(result(killed_run), result(unbroken))
    assert capsys.readouterr().out.count("it is set aside, and built again") == len(steps)
    assert [event["version"] for event in store.history() if event["event"] == "damaged"] == [v.name for v in damaged]


@pytest.mark.slow
def test_a_version_that_is_gone_is_built_again(unbroken, killed_run):
    shutil.rmtree(IndexStore(killed_run.index_folder).versions()[0].folder)
    train(killed_run)
    assert_same(result(killed_run), result(unbroken))


@pytest.mark.slow
def test_a_version_that_is_damaged_while_it_is_waited_for(unbroken, new_run, monkeypatch):
    run, build = new_run(**SETTINGS), PretrainTask.build_index

    def damaged(self, at, params):
        build(self, at, params)
        flip_a_bit(IndexStore(run.index_folder).latest().folder / "embeddings.npy")

    with monkeypatch.context() as patch, pytest.raises(ConfigError, match=r"the same command again does both"):
        patch.setattr(PretrainTask, "build_index", damaged)
        train(run)
    train(run)
    assert_same(result(run), result(unbroken))


@pytest.mark.parametrize("keep", [1, 2])
def test_a_damaged_checkpoint_takes_its_versions_back(new_run, keep):
    """The version that the state before it needs was pruned: it is built again, and no later one is used instead."""
    more = {"steps": 8, "checkpoint_every": 2}
    run = new_run(pretrain=SETTINGS["pretrain"] | more, index={"keep_versions": keep})
    train(run)
    unbroken, last = result(run), pathlib.Path(run.phase("pretrain")) / "checkpoints" / "8" / "encoder"
    (run.phase("pretrain") / "DONE").unlink()
    arrays = [file for file in last.rglob("*") if file.parent.name == "d"]
    assert arrays
    for file in arrays:
        flip_a_bit(file)
    train(run)
    assert_same(result(run), unbroken)


@pytest.mark.slow
def test_a_version_whose_checkpoint_is_gone_too(killed_run):
    shutil.rmtree(IndexStore(killed_run.index_folder).versions()[0].folder)
    shutil.rmtree(killed_run.phase("pretrain") / "checkpoints" / "2")
    with pytest.raises(ConfigError, match=r"lacks the version of step 2, and .*checkpoints/2 is gone"):
        train(killed_run)


@pytest.fixture
def store(new_run):
    """A run with versions of steps 0, 4 and 8 of the same weights, and a function that publishes another."""
    run = new_run()
    data, store = open_prepared(run), IndexStore(run.index_folder)
    params = phases.first_params(run)["embedder"]
    IndexBuilder(run.config, data, store).build(0, params, embedded_by={})
    first = store.latest()

    def publish(step):
        with store.begin(step) as draft:
            for name in first.manifest["files"]:
                os.makedirs((draft.folder / name).parent, exist_ok=True)
                shutil.copy(first.folder / name, draft.folder / name)
            draft.publish(
                {k: v for k, v in first.manifest.items() if k not in ("files", "step", "started", "finished")}
            )

    publish(4)
    publish(8)
    return store, data.knowledge, run.config, publish


def test_no_version_of_a_later_step_is_used(store):
    index = CurrentIndex(*store[:3], 4, own_every=4)
    used = [index.loaded.version.step]
    for step in range(5, 12):
        index.adopt(step)
        used.append(index.loaded.version.step)
    index.close()
    assert used == [0, 4, 4, 4, 4, 8, 8, 8]


def test_the_pin_is_renewed(store, monkeypatch):
    """Else a version that is in use for longer than a day could be pruned."""
    monkeypatch.setattr("realm_jax.index.current.RENEW_PIN_S", 0.0)
    monkeypatch.setattr("realm_jax.index.current.POLL_S", 0.02)
    index = CurrentIndex(*store[:3], 8)
    pin = own_pin(index.loaded.version.folder)
    pin.unlink()
    deadline = time.monotonic() + 30
    while not pin.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    index.close()
    assert not pin.exists()


def test_other_knowledge_is_used_under_the_same_step(store):
    """What `index.update` publishes meanwhile is not waited for, and brings no later version with it."""
    versions, *_, publish = store
    index = CurrentIndex(*store[:3], 6, own_every=4)
    before = index.loaded.version
    publish(4)
    deadline = time.monotonic() + 30
    while not index.adopt(7):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert index.loaded.version.step == 4 and index.loaded.version.order > before.order
    index.close()
    assert versions.latest().step == 8
