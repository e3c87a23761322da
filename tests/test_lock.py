"""One process at a time, and none that a dead one keeps out."""

import dataclasses
import importlib
import os
import signal
import subprocess
import sys

import pytest
from etils import epath

from realm_jax import lock
from realm_jax.config import ConfigError
from realm_jax.lock import is_held, only_one
from realm_jax.workdir import Workdir

HOLDER = """
import subprocess, sys, time
from realm_jax.lock import only_one
with only_one(sys.argv[1], "the run is being trained"):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])  # as the index builder
    print(child.pid, flush=True)
    time.sleep(60)
"""


def test_a_second_process_is_told_of_the_first_and_a_killed_one_holds_nothing(tmp_path):
    file = tmp_path / "new folder" / "trainer.lock"
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(file)], stdout=subprocess.PIPE, text=True) as process:
        child = int(process.stdout.readline())
        try:
            assert is_held(file)
            told = (
                rf"^the run is being trained by another process \({process.pid} on \S+, since 20.*\): wait for it, or "
            )
            with pytest.raises(ConfigError, match=told) as refused, only_one(file, "the run is being trained"):
                pass
            assert f"kill {process.pid}" in str(refused.value) and f"delete {file}" in str(refused.value)
            process.send_signal(signal.SIGKILL)
            process.wait()
            with only_one(file, "the run is being trained"):  # though its child lives
                assert is_held(file)
        finally:
            os.kill(child, signal.SIGKILL)
    assert not is_held(file)


def test_a_bucket_and_a_disk_without_locks_keep_nobody_out(tmp_path, monkeypatch):
    with only_one(epath.Path("gs://no-such-bucket/lock"), "x"):
        assert not is_held(epath.Path("gs://no-such-bucket/lock"))

    def flock(descriptor, how):
        raise OSError(lock.errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(lock.fcntl, "flock", flock)
    with only_one(tmp_path / "lock", "x"), only_one(tmp_path / "lock", "x"):
        pass


def test_the_config_of_a_run_that_is_being_begun_is_not_overwritten(tiny_config, tmp_path):
    workdir = Workdir.create(tmp_path / "run", tiny_config)
    other = dataclasses.replace(tiny_config, seed=9)
    with only_one(workdir.trainer_lock, "x"), pytest.raises(ConfigError, match="seed: 9 here, 0 there"):
        Workdir.create(tmp_path / "run", other)
    assert Workdir.open(tmp_path / "run").config.seed == 0
    Workdir.create(tmp_path / "run", other)


@pytest.mark.parametrize("command", ["ict", "pretrain", "run"])
def test_a_config_that_was_overwritten_before_the_lock_was_taken_is_no_ones(
    tiny_config, tmp_path, monkeypatch, command
):
    workdir = Workdir.create(tmp_path / "run", tiny_config)
    other = dataclasses.replace(tiny_config, seed=9)
    module = importlib.import_module(f"realm_jax.commands.{command}")

    def opened_before(*arguments):
        Workdir.create(workdir.path, other)  # by a command that started at the same time
        return workdir

    monkeypatch.setattr(module.cli, "new_workdir", opened_before)
    with pytest.raises(ConfigError, match="was begun by another command meanwhile .seed: 0 here, 9 there"):
        module.main([])


@pytest.mark.parametrize("command", ["ict", "pretrain", "run", "finetune"])
def test_no_second_trainer(tiny_run, copy_run, tmp_path, command):
    workdir = copy_run(tiny_run, tmp_path / "run")
    module = importlib.import_module(f"realm_jax.commands.{command}")
    file = workdir.phase("finetune/cloze") / "trainer.lock" if command == "finetune" else workdir.trainer_lock
    with only_one(file, "x"), pytest.raises(ConfigError, match="is being trained by another process"):
        module.main([f"--workdir={workdir.path}"])
