"""Faults that kill nobody: read-only disks, slow ones, clocks that are set back, other devices, folders that move."""

import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from realm_jax.config import ConfigError
from realm_jax.data.prepare import open_prepared
from realm_jax.index.store import IndexStore
from realm_jax.training import loop, phases, pretrain
from realm_jax.workdir import Workdir, write_text
from tests.training.test_loop import LinearTask

REPOSITORY = pathlib.Path(__file__).parents[2]
AS_ANYBODY = """
import ctypes, os, sys
for capability in (1, 2):  # to write and to read what permissions forbid, which root may; others have nothing to lose
    ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)
os.execv(sys.executable, [sys.executable, "-m", "realm_jax", *sys.argv[1:]])
"""


def realm(workdir: pathlib.Path, command: str, devices: int = 1, **variables: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": str(devices), **variables}
    given = [sys.executable, "-c", AS_ANYBODY, command, f"--workdir={workdir}"]
    return subprocess.run(given, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=300)


@pytest.fixture
def read_only():
    """Makes a folder, and what is in it, read-only until the test ends."""
    changed = []

    def make(folder: pathlib.Path) -> None:
        for path in [folder, *folder.rglob("*")]:
            changed.append((path, path.stat().st_mode))
            path.chmod(0o555 if path.is_dir() else 0o444)

    yield make
    for path, mode in changed:
        path.chmod(mode)


@pytest.mark.slow
def test_a_finished_run_on_a_read_only_disk_is_finished(tiny_run, copy_run, tmp_path, read_only):
    copy_run(tiny_run, tmp_path / "run")
    assert realm(tmp_path / "run", "run").returncode == 0
    read_only(tmp_path / "run")
    done = realm(tmp_path / "run", "run")
    assert done.returncode == 0 and "is finished" in done.stdout, done.stderr


def test_a_run_on_a_read_only_disk_says_so_in_one_line(tiny_run, copy_run, tmp_path, read_only):
    copy_run(tiny_run, tmp_path / "run")
    read_only(tmp_path / "run")
    done = realm(tmp_path / "run", "run")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "Permission denied" in done.stderr.splitlines()[-1], done.stderr


def test_a_file_that_cannot_be_written_is_one_error(tmp_path, monkeypatch):
    """Not that of the clean-up after it."""

    def refuse(*arguments, **more):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(ConfigError, match="cannot write .*File exists"):
        (tmp_path / "file").touch()
        write_text(tmp_path / "file" / "below", "text")


def test_steps_go_on_while_a_slow_disk_writes(tmp_path, monkeypatch):
    """Orbax commits a checkpoint on a thread of its own; only the next save waits for it."""
    from orbax.checkpoint._src.path import atomicity

    slow_s, steps = 1.5, []
    finalize = atomicity.AtomicRenameTemporaryPath.finalize

    async def slow(self, *arguments, **more):
        time.sleep(slow_s)
        return await finalize(self, *arguments, **more)

    class Timed(LinearTask):
        steps, log_every = 60, 1

        def saves_at(self, step):
            return step == 20

        def stream(self, state):
            stream = super().stream(state)
            take = stream.take
            stream.take = lambda params: steps.append(time.monotonic()) or take(params)
            return stream

    loop.run(Timed(), tmp_path / "warm")
    steps.clear()
    monkeypatch.setattr(atomicity.AtomicRenameTemporaryPath, "finalize", slow)
    loop.run(Timed(), tmp_path / "slow")
    waits = np.diff(steps)
    assert waits[25:].max() < slow_s / 2, "a step waited for the disk"


@pytest.mark.slow
def test_a_clock_that_is_set_back_changes_nothing(new_run, monkeypatch):
    settings = {"pretrain": {"steps": 6, "index_refresh_every": 2, "checkpoint_every": 2, "log_every": 1}}
    whole, odd = (new_run(name, **settings) for name in ("whole", "odd"))
    pretrain.train(whole, open_prepared(whole))
    now, calls = time.time, []

    def set_back() -> float:
        """An hour earlier each fiftieth time."""
        calls.append(None)
        return now() - 3600.0 * (len(calls) // 50)

    with monkeypatch.context() as patch:
        patch.setattr(time, "time", set_back)
        pretrain.train(odd, open_prepared(odd))
    assert len(calls) > 100
    ours, theirs = (phases.last_params(run, "pretrain") for run in (odd, whole))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
    events = [
        [
            (event["event"], event.get("step"), event.get("trainer_step"))
            for event in IndexStore(run.index_folder).history()
        ]
        for run in (odd, whole)
    ]
    assert events[0] == events[1] and len(events[0]) > 6


@pytest.mark.slow
def test_another_number_of_devices_changes_rounding_alone(tiny_run, tmp_path):
    """One device, eight, and one again; the batches are the same, and so are the blocks that are found for them."""
    settings = dataclasses.replace(
        tiny_run.config.pretrain, steps=9, checkpoint_every=3, index_refresh_every=3, log_every=1
    )
    for name in ("whole", "changed"):
        Workdir.create(tmp_path / name, dataclasses.replace(tiny_run.config, pretrain=settings))
    assert realm(tmp_path / "whole", "run").returncode == 0
    for devices, stop in ((1, "3"), (8, "3")):
        fault = {"REALM_JAX_FAULT": f"run:pretrain step:{stop}", "REALM_JAX_FAULT_SENDS": "SIGTERM"}
        done = realm(
            tmp_path / "changed", "run", devices, **fault, REALM_JAX_FAULT_SAYS=str(tmp_path / f"at {devices}")
        )
        assert done.returncode == 143 and "its state is saved" in done.stderr, done.stdout + done.stderr
    assert realm(tmp_path / "changed", "run").returncode == 0
    whole, changed = (Workdir.open(tmp_path / name) for name in ("whole", "changed"))
    ours, theirs = (phases.last_params(run, "pretrain") for run in (changed, whole))
    # Adam's first steps are as long for the smallest gradients as for the largest: 1e-3 each.
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-3), ours, theirs)
    losses = [
        [json.loads(line)["loss"] for line in (run.phase("pretrain") / "metrics.jsonl").read_text().splitlines()]
        for run in (changed, whole)
    ]
    np.testing.assert_allclose(*losses, rtol=1e-4)
    assert any(not np.array_equal(a, b) for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True))


@pytest.mark.slow
def test_a_run_goes_on_where_a_link_with_an_odd_name_leads(tiny_run, copy_run, tmp_path):
    """It is moved between two starts, and reached through a link, with spaces and letters beyond ASCII."""
    copy_run(tiny_run, tmp_path / "run")
    whole = realm(tmp_path / "run", "pretrain")
    assert whole.returncode == 0, whole.stderr
    copy_run(tiny_run, tmp_path / "other")
    fault = {"REALM_JAX_FAULT": "pretrain:pretrain step:3", "REALM_JAX_FAULT_SAYS": str(tmp_path / "reached")}
    assert realm(tmp_path / "other", "pretrain", **fault).returncode == -9
    moved, link = tmp_path / "ein Läufer, größer", tmp_path / "ссылка здесь"
    shutil.move(tmp_path / "other", moved)
    link.symlink_to(moved)
    done = realm(link, "pretrain")
    assert done.returncode == 0 and "resuming from step 2" in done.stdout, done.stderr
    ours, theirs = (phases.last_params(run, "pretrain") for run in map(Workdir.open, (link, tmp_path / "run")))
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)
