"""Trainer and builder as processes of their own that are killed: the other goes on, and the same commands resume."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from realm_jax.checkpoints import Checkpoints
from realm_jax.index.claims import OWNER
from realm_jax.index.store import IndexStore
from realm_jax.index.version import EMBEDDINGS
from realm_jax.training import phases

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
DEADLINE_S = 120.0


@pytest.fixture
def start(cache):
    """Starts `realm NAME --workdir=W` in a process group of its own; no group outlives the test."""
    started = []

    def run(name, workdir) -> subprocess.Popen:
        environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "1", "REALM_JAX_CACHE": str(cache)}
        command = [sys.executable, "-m", "realm_jax", name, f"--workdir={workdir.path}"]
        log = open(workdir.path / f"{name}.{len(started)}.log", "w")
        started.append(
            subprocess.Popen(
                command, cwd=REPOSITORY, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        )
        started[-1].log = pathlib.Path(log.name)
        return started[-1]

    yield run
    deadline = time.monotonic() + 10  # a process that ends takes a moment
    while any(is_group_alive(process) for process in started) and time.monotonic() < deadline:
        time.sleep(0.1)
    left = [process.args for process in started if is_group_alive(process)]
    for process in started:
        if is_group_alive(process):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert not left, f"left over: {left}"


def is_group_alive(process) -> bool:
    """Whether the process or a descendant of its group runs; one that only nobody has waited for does not count."""
    if process.poll() is None:
        return True
    for file in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, group = file.read_text().rsplit(")", 1)[1].split()[:3]
        except OSError:  # it has just ended
            continue
        if int(group) == process.pid and state not in "ZX":
            return True
    return False


def wait_for(condition, *running):
    """Polls a condition while processes run."""
    deadline = time.monotonic() + DEADLINE_S
    while not (value := condition()):
        for process in running:
            assert process.poll() is None, process.log.read_text()[-3000:]
        assert time.monotonic() < deadline, [process.log.read_text()[-1000:] for process in running]
        time.sleep(0.005)
    return value


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()


def finish(process) -> str:
    """Waits for a good end; returns what the process said."""
    assert process.wait(timeout=DEADLINE_S) == 0, process.log.read_text()[-3000:]
    return process.log.read_text()


def last_line(workdir) -> int:
    """The last step that the trainer wrote metrics of."""
    file = workdir.phase("pretrain") / "metrics.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    return json.loads(lines[-1])["step"] if lines else 0


def drafts(workdir):
    folders = workdir.index_folder.glob("step-*")
    return [folder for folder in folders if not (folder / "manifest.json").exists()]


def hold_in_mid_build(workdir, builder):
    """Stops a builder whose draft is claimed and has embeddings; None, and the builder goes on, at any other moment."""
    if not drafts(workdir):
        return None
    builder.send_signal(signal.SIGSTOP)
    os.waitpid(builder.pid, os.WUNTRACED)  # it stands still
    for draft in drafts(workdir):
        if (draft / OWNER).exists() and (draft / EMBEDDINGS).exists():
            return draft
    builder.send_signal(signal.SIGCONT)
    return None


def steps_saved(workdir) -> set[int]:
    folder = pathlib.Path(workdir.phase("pretrain") / "checkpoints")
    return {int(path.name) for path in folder.glob("*") if path.name.isdigit()}


@pytest.mark.slow
def test_killed_processes_resume_beside_the_other(start, new_run):
    """The trainer may run 300 steps on one index version, then pauses: so it cannot end before it is killed."""
    workdir = new_run(
        pretrain={"steps": 500, "index_refresh_every": 50, "checkpoint_every": 50, "log_every": 10},
        index={"device": "cpu", "embed_batch_tokens": 512, "max_age_steps": 300, "max_age_policy": "pause"},
    )
    store = IndexStore(workdir.index_folder)
    builder = start("builder", workdir)
    wait_for(lambda: (workdir.phase("pretrain") / "checkpoints").exists(), builder)  # it is ready
    trainer = start("pretrain", workdir)
    wait_for(lambda: store.latest() is not None, builder, trainer)
    draft = wait_for(lambda: hold_in_mid_build(workdir, builder), builder, trainer)
    kill(builder)
    assert not (draft / "manifest.json").exists()
    before = last_line(workdir)
    wait_for(lambda: last_line(workdir) >= before + 20, trainer)  # the trainer goes on

    builder = start("builder", workdir)
    known = store.latest().step
    wait_for(lambda: store.latest().step > known, builder, trainer)
    wait_for(lambda: not draft.exists(), builder, trainer)  # the new builder removes what the killed one left
    wait_for(lambda: last_line(workdir) % 50, trainer)
    kill(trainer)  # in mid-step
    reached, saved = last_line(workdir), max(steps_saved(workdir))
    assert reached < 500
    time.sleep(0.5)
    assert builder.poll() is None  # the builder goes on

    trainer = start("pretrain", workdir)
    said = finish(trainer)
    assert f"resuming from step {saved} of 500" in said
    assert "training is done and indexed" in finish(builder)
    assert workdir.is_done("pretrain") and max(steps_saved(workdir)) == 500
    assert store.latest().step == 500 and not drafts(workdir)
    for version in store.versions():
        version.verify()
    lines = [
        json.loads(line)["step"] for line in (workdir.phase("pretrain") / "metrics.jsonl").read_text().splitlines()
    ]
    assert lines == sorted(set(lines))


@pytest.mark.slow
def test_a_killed_or_stopped_run_ends_as_an_unbroken_one(start, new_run):
    """With a frozen index the batches are a function of the state alone, so the parameters are the same, bit by bit."""
    pretrain = {"steps": 500, "index_refresh_every": 0, "checkpoint_every": 50, "log_every": 10}
    unbroken, broken = (new_run(name, pretrain=pretrain) for name in ("unbroken", "broken"))
    finish(start("pretrain", unbroken))

    trainer = start("pretrain", broken)
    wait_for(lambda: last_line(broken) > 10, trainer)
    trainer.send_signal(signal.SIGTERM)
    started = time.monotonic()
    assert trainer.wait(timeout=30) == 143 and time.monotonic() - started < 15
    said = trainer.log.read_text().strip().splitlines()[-1]
    step = max(steps_saved(broken))
    assert said == f"pretrain stopped by SIGTERM at step {step}; its state is saved"

    trainer = start("pretrain", broken)
    wait_for(lambda: max(steps_saved(broken)) > step, trainer)
    kill(trainer)
    saved = max(steps_saved(broken))
    assert saved < 500
    assert f"resuming from step {saved} of 500" in finish(start("pretrain", broken))

    params = [phases.last_params(w, "pretrain") for w in (unbroken, broken)]
    import jax

    jax.tree.map(np.testing.assert_array_equal, *params)
    with Checkpoints(broken.phase("pretrain")) as checkpoints:
        assert checkpoints.latest_step() == 500


@pytest.mark.slow
def test_a_killed_run_leaves_no_builder(start, new_run):
    workdir = new_run(pretrain={"steps": 500, "index_refresh_every": 100}, index={"device": "cpu"})
    run = start("run", workdir)
    children = pathlib.Path(f"/proc/{run.pid}/task/{run.pid}/children")
    if not pathlib.Path("/proc/self/task").exists():
        pytest.skip("needs /proc")
    builder = wait_for(lambda: [int(pid) for pid in children.read_text().split() if is_builder(pid)], run)[0]
    wait_for(lambda: (workdir.phase("pretrain") / "checkpoints").exists() and last_line(workdir), run)
    kill(run)
    wait_for(lambda: not is_builder(builder))
    assert not workdir.is_done("pretrain")


def is_builder(pid) -> bool:
    try:
        return b"\0builder\0" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
