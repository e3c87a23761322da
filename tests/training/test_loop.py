"""The loop on a small linear task: resuming, stopping, and what it refuses to save."""

import json
import os
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from realm_jax import parallel, signals
from realm_jax.checkpoints import Checkpoints
from realm_jax.config import ConfigError
from realm_jax.data.pipeline import Batches
from realm_jax.training import loop


class Break(Exception):
    """Stands for a crash."""


class Stream(Batches):
    """Batches with an event before one of them."""

    def __init__(self, task, state):
        super().__init__(task.make, state)
        self._task = task

    def take(self, params):
        if self._taken == self._task.event_at:
            self._task.event()
        return super().take(params)


class LinearTask(loop.Task):
    """Least squares on batches that depend on their number alone."""

    name, steps, log_every, seed = "linear", 12, 4, 0

    def __init__(self, event_at=None, event=None, spoil=None):
        self.event_at, self.event, self.spoil = event_at, event, spoil

    def init(self):
        return {"embedder": {"kernel": jnp.zeros(3)}}

    def optimizer(self):
        return optax.adam(0.1)

    def loss(self, params, batch, rng):
        error = batch["x"] @ params["embedder"]["kernel"] - batch["y"]
        noise = jax.random.normal(rng, ())  # a resumed run must draw the same
        return (error**2).sum() + 1e-3 * noise * params["embedder"]["kernel"].sum(), jnp.float32(len(error)), {}

    def make(self, number):
        rng = np.random.default_rng(number)
        x = rng.normal(size=(8, 3)).astype(np.float32)
        y = x @ np.array([1, 2, 3], np.float32)
        return parallel.shard({"x": x, "y": y * np.float32("nan") if number == self.spoil else y})

    def stream(self, state):
        return Stream(self, state)

    def saves_at(self, step):
        return step % 3 == 0


class Judged(LinearTask):
    """It is evaluated after every sixth step; what comes first in the evaluation after step `at` is `during`."""

    def __init__(self, at=None, during=None):
        super().__init__()
        self.at, self.during = at, during

    def evaluates_at(self, step):
        return step % 6 == 0

    def evaluate(self, step, params):
        if step == self.at:
            self.during()
        return {"score": float(parallel.unreplicate(params)["embedder"]["kernel"].sum())}


def crash():
    raise Break


def reported(folder) -> list[tuple]:
    """Step, loss and score of each line."""
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(record["step"], record["loss"], record.get("score")) for record in records]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    return loop.run(LinearTask(), tmp_path_factory.mktemp("unbroken"))


def test_it_learns(unbroken):
    assert np.abs(unbroken["embedder"]["kernel"]).sum() > 1


@pytest.mark.parametrize("crash_at", [1, 5, 9, 11])
def test_resumed_run_ends_with_the_same_bits(unbroken, tmp_path, crash_at):
    with pytest.raises(Break):
        loop.run(LinearTask(crash_at, crash), tmp_path)
    resumed = loop.run(LinearTask(), tmp_path)
    jax.tree.map(np.testing.assert_array_equal, resumed, unbroken)


def test_saved_position_is_that_of_the_last_trained_batch(tmp_path):
    with pytest.raises(Break):
        loop.run(LinearTask(7, crash), tmp_path)
    task = LinearTask()
    with Checkpoints(tmp_path) as checkpoints:
        params = task.init()
        _, _, data = checkpoints.restore(6, params, task.optimizer().init(params))
    assert set(data.pop("unreported")) == {"loss", "step_seconds"} and data == {"position": 6}


def stop_by(number):
    return lambda: os.kill(os.getpid(), number)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize("step", [1, 5, 6, 12])  # 6 is saved in any case, 12 is the last one
def test_a_signal_saves_and_stops(unbroken, tmp_path, step, number, status):
    with pytest.raises(signals.Stopped, match=f"{number.name} at step {step}; its state is saved") as stopped:
        loop.run(LinearTask(step - 1, stop_by(number)), tmp_path)
    assert stopped.value.status == status
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_step() == step
    jax.tree.map(np.testing.assert_array_equal, loop.run(LinearTask(), tmp_path), unbroken)


@pytest.mark.parametrize("done", [0, 5, 6])
def test_a_signal_while_a_batch_waits_for_an_index_saves_what_is_done(unbroken, tmp_path, done):
    def wait():
        os.kill(os.getpid(), signal.SIGTERM)
        for _ in range(100):
            time.sleep(0.01)
            signals.check()

    with pytest.raises(signals.Stopped, match=f"SIGTERM at step {done}"):
        loop.run(LinearTask(done, wait), tmp_path)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_step() == done
    jax.tree.map(np.testing.assert_array_equal, loop.run(LinearTask(), tmp_path), unbroken)


@pytest.mark.parametrize("step", [6, 12])
def test_an_evaluation_that_is_broken_off_is_done_after_a_restart(unbroken, tmp_path, step):
    loop.run(Judged(), tmp_path / "unbroken")
    with pytest.raises(Break):
        loop.run(Judged(step, crash), tmp_path / "broken")
    with Checkpoints(tmp_path / "broken") as checkpoints:
        assert checkpoints.latest_step() == step
    resumed = loop.run(Judged(), tmp_path / "broken")
    jax.tree.map(np.testing.assert_array_equal, resumed, unbroken)
    assert reported(tmp_path / "broken") == reported(tmp_path / "unbroken")
    assert [line[0] for line in reported(tmp_path / "broken") if line[2] is not None] == [6, 12]


EVALUATING = """
import sys, time
from realm_jax import signals
from realm_jax.training import loop
from tests.training.test_loop import Judged

def judge():
    print("judging", flush=True)
    time.sleep(60)

with signals.ending():
    loop.run(Judged(6, judge), sys.argv[1])
"""


def test_a_signal_in_an_evaluation_waits_for_nothing_and_loses_nothing(unbroken, tmp_path):
    command = [sys.executable, "-c", EVALUATING, tmp_path]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while process.stdout.readline() != "judging\n":
            assert process.poll() is None
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=30) == 143 and time.monotonic() - started < signals.GRACE_S + 2
        assert process.stderr.read() == "stopped by SIGTERM: the same command goes on where it was\n"
    jax.tree.map(np.testing.assert_array_equal, loop.run(Judged(), tmp_path), unbroken)
    assert [line[0] for line in reported(tmp_path) if line[2] is not None] == [6, 12]


SAVING = """
import sys, time
from realm_jax import signals
from realm_jax.checkpoints import ocp
from realm_jax.training import loop
from tests.training.test_loop import LinearTask

wait = ocp.CheckpointManager.wait_until_finished

def wait_long(self):  # for the last save
    if self.latest_step() == 12:
        print("saving", flush=True)
        time.sleep(signals.GRACE_S + 2)
    wait(self)

ocp.CheckpointManager.wait_until_finished = wait_long
with signals.ending():
    loop.run(LinearTask(), sys.argv[1])
"""


def test_a_signal_while_the_last_state_is_written_waits_for_it(tmp_path):
    with subprocess.Popen([sys.executable, "-c", SAVING, tmp_path], stdout=subprocess.PIPE, text=True) as process:
        while process.stdout.readline() != "saving\n":
            assert process.poll() is None
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 143 and time.monotonic() - started > signals.GRACE_S + 1


def test_non_finite_loss_names_the_step_and_is_never_saved(tmp_path):
    with pytest.raises(loop.NonFiniteLoss, match="at step 6") as told:
        loop.run(LinearTask(spoil=5), tmp_path)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_step() == 3
    file = tmp_path / "batch-6-of-process-0.npz"
    assert str(told.value).endswith(f"the step's batch in {file}")
    kept, batch = np.load(file), LinearTask(spoil=5).make(5)
    assert set(kept) == {"['x']", "['y']"} and np.isnan(kept["['y']"]).all()
    np.testing.assert_array_equal(kept["['x']"], batch["x"])


@pytest.mark.parametrize("how", ["a flipped bit", "a file that is gone"])
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_taken(tmp_path, unbroken, capsys, how):
    with pytest.raises(Break):
        loop.run(LinearTask(8, crash), tmp_path)
    files = [file for file in (tmp_path / "checkpoints" / "6").rglob("*") if "/d/" in str(file)]
    assert files
    for file in files:
        file.unlink() if how.endswith("gone") else file.write_bytes(bytes(x ^ 1 for x in file.read_bytes()))
    params = loop.run(LinearTask(), tmp_path)
    jax.tree.map(np.testing.assert_array_equal, params, unbroken)
    said = capsys.readouterr().out
    (aside,) = (tmp_path / "damaged").iterdir()
    assert "checkpoints/6 is damaged (" in said and f"it is now {aside}" in said and "resuming from step 3" in said


def test_the_only_checkpoint_is_never_set_aside(tmp_path):
    with pytest.raises(Break):
        loop.run(LinearTask(2, crash), tmp_path)
    for file in (tmp_path / "checkpoints" / "0").rglob("*"):
        if "/d/" in str(file):
            file.unlink()
    with pytest.raises(ConfigError, match="checkpoints/0 is damaged"):
        loop.run(LinearTask(), tmp_path)
    assert not (tmp_path / "damaged").exists()


def test_a_checkpoint_of_another_model_is_not_taken_for_damaged(tmp_path):
    with pytest.raises(Break):
        loop.run(LinearTask(8, crash), tmp_path)
    other = LinearTask()
    other.init = lambda: {"embedder": {"kernel": jnp.zeros(4)}}
    with pytest.raises(ConfigError, match="does not fit this config"):
        loop.run(other, tmp_path)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir())[-1] == "6"


def test_non_finite_loss_of_a_resumed_run_names_the_step_too(tmp_path):
    with pytest.raises(Break):
        loop.run(LinearTask(7, crash), tmp_path)
    with pytest.raises(loop.NonFiniteLoss, match="at step 8"):
        loop.run(LinearTask(spoil=7), tmp_path)


def test_random_numbers_differ_between_steps_and_devices():
    def loss(params, batch, rng):
        noise = jax.random.normal(rng, ())
        return params.sum() + 0 * batch.sum(), jnp.float32(1), {"noise": (noise, 1.0), "square": (noise**2, 1.0)}

    optimizer = optax.sgd(0.0)
    params = jnp.zeros(1)
    state = parallel.replicate(parallel.TrainState(jnp.int32(0), params, optimizer.init(params)))
    step, noise = parallel.compiled_train_step(loss, optimizer, 0), []
    for _ in range(3):
        state, metrics = step(state, parallel.shard(np.zeros(8, np.float32)))
        means = parallel.means(metrics)
        assert means["square"] > 1.01 * means["noise"] ** 2, "every device draws the same"
        noise.append(means["noise"])
    assert len(set(noise)) == 3, "every step draws the same"


def test_metrics_have_no_step_twice(tmp_path):
    with pytest.raises(Break):
        loop.run(LinearTask(8, crash), tmp_path)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "lo')  # torn by a kill
    loop.run(LinearTask(), tmp_path)
    steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert steps == [3, 4, 6, 8, 9, 12]


def test_a_line_is_the_mean_over_its_steps_and_all_devices(tmp_path):
    task = LinearTask()
    task.log_every = 1
    loop.run(task, tmp_path / "each")
    loop.run(LinearTask(), tmp_path / "several")
    each, several = (
        {r["step"]: r["loss"] for r in map(json.loads, (tmp_path / name / "metrics.jsonl").read_text().splitlines())}
        for name in ("each", "several")
    )
    y = task.make(0)["y"]
    np.testing.assert_allclose(each[1], (y**2).mean(), rtol=1e-5)  # the first parameters are zero
    np.testing.assert_allclose(several[3], np.mean([each[step] for step in (1, 2, 3)]), rtol=1e-5)
    np.testing.assert_allclose(several[12], np.mean([each[step] for step in (10, 11, 12)]), rtol=1e-5, atol=1e-5)
