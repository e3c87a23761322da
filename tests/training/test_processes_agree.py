"""Processes that train together switch to the same index version at the same step, however fast each of them loads."""

import os
import shutil
import threading
import time

import numpy as np
import pytest

from realm_jax import processes
from realm_jax.data.prepare import open_prepared
from realm_jax.index import current
from realm_jax.index.claims import MANIFEST
from realm_jax.index.current import CurrentIndex
from realm_jax.index.index_builder import IndexBuilder
from realm_jax.index.store import NEXT, IndexStore
from realm_jax.processes import Reduced
from realm_jax.records import Process
from realm_jax.training import phases
from tests.damage import flip_a_bit

PROCESSES, STEPS, EVERY = 3, 150, 30
KINDS = ("adopted", "damaged")


class Threads:
    """Threads that play processes: what `realm_jax.processes` does between processes, done by barriers."""

    def __init__(self):
        self._me = threading.local()
        self._meet = threading.Barrier(PROCESSES, timeout=60)
        self._said = [0] * PROCESSES

    def enter(self, number: int) -> None:
        """The calling thread is a process from now on."""
        self._me.number = number

    def this(self) -> Process:
        return Process(self._me.number, PROCESSES)

    def is_first(self) -> bool:
        return self._me.number == 0

    def together(self, value: int) -> list[int]:
        """What every process passed."""
        self._said[self._me.number] = value
        self._meet.wait()
        said = list(self._said)
        self._meet.wait()
        return said

    def from_first(self, value: int) -> int:
        return self.together(value)[0]

    def least(self, value: int) -> int:
        return min(self.together(value))

    def all_reduce(self):
        pending = [0] * PROCESSES

        class AllReduce:
            def reduce(all_reduce, value: int) -> Reduced:
                nonlocal pending
                before, pending = pending, self.together(value)
                return Reduced(before[0], min(before), max(before))

        return AllReduce()


@pytest.fixture
def threads(monkeypatch):
    made = Threads()
    monkeypatch.setattr(processes, "this", made.this)
    monkeypatch.setattr(processes, "is_first", made.is_first)
    monkeypatch.setattr(processes, "from_first", made.from_first)
    monkeypatch.setattr(processes, "least", made.least)
    monkeypatch.setattr(processes, "AllReduce", made.all_reduce)
    monkeypatch.setattr(current, "POLL_S", 0.02)
    return made


@pytest.mark.parametrize(
    ("own_every", "damaged"),
    [(0, ()), (EVERY, ()), (0, (1, 2 * EVERY))],
    ids=["a builder's versions", "the trainer's own", "some of them damaged"],
)
def test_all_processes_switch_at_the_same_steps(new_run, threads, own_every, damaged):
    workdir = new_run()
    data, store = open_prepared(workdir), IndexStore(workdir.index_folder)
    params = phases.first_params(workdir)["embedder"]
    threads.enter(0)
    IndexBuilder(workdir.config, data, store).build(0, params, embedded_by={})
    first = store.latest()

    def publish(step: int) -> None:
        """Another version: the same embeddings under another step."""
        with store.begin(step) as draft:
            for name in first.manifest["files"]:
                os.makedirs((draft.folder / name).parent, exist_ok=True)
                shutil.copy(first.folder / name, draft.folder / name)
            kept = {k: v for k, v in first.manifest.items() if k not in ("files", "step", "started", "finished")}
            version = draft.hand_over(kept)
            if step in damaged:
                flip_a_bit(version.folder / "embeddings.npy")
            (version.folder / NEXT).rename(version.folder / MANIFEST)

    if damaged:
        publish(1)  # found at the start
    used: list[list[int]] = [[] for _ in range(PROCESSES)]
    failures = []

    def train(number: int) -> None:
        threads.enter(number)
        rng = np.random.default_rng(number)
        try:
            index = CurrentIndex(store, data.knowledge, workdir.config, 0, own_every=own_every)
            load = index._load

            def load_slowly(version):
                time.sleep(rng.uniform(0, 0.3))
                return load(version)

            index._load = load_slowly
            for step in range(1, STEPS + 1):
                index.adopt(step)
                used[number].append(index.loaded.version.step)
                if number == 0 and step % EVERY == 0 and step < STEPS:
                    publish(step)
                time.sleep(0.02)
            index.close()
        except Exception as error:
            failures.append(error)
            raise

    running = [threading.Thread(target=train, args=(number,)) for number in range(PROCESSES)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join(timeout=120)
    assert not failures
    assert used[0] == used[1] == used[2] and len(used[0]) == STEPS
    assert len(set(used[0])) >= 3, "versions were adopted"
    if own_every:
        assert used[0] == [(step - 1) // EVERY * EVERY for step in range(1, STEPS + 1)]
    assert not set(used[0]) & set(damaged)
    told = {kind: [event["step"] for event in store.history() if event["event"] == kind] for kind in KINDS}
    assert told == {"adopted": sorted(set(used[0])), "damaged": list(damaged)}, "the first process alone writes it"
