"""Two processes on one GPU: their shares of its memory, and who waits for whom."""

import os
import signal
import subprocess
import time

import pytest
from conftest import REPOSITORY

PYTHON = """#!/bin/bash
# Takes the place of Python: writes down how it was called, and does what FAKE_TRAINER or FAKE_BUILDER says.
echo "$XLA_PYTHON_CLIENT_MEM_FRACTION $*" >>"$CALLS"
case "$3" in builder) eval "$FAKE_BUILDER" ;; *) eval "$FAKE_TRAINER" ;; esac
"""
TRIES = 'echo x >>"$CALLS.tries"; [ "$(wc -l <"$CALLS.tries")" -ge 3 ]'


@pytest.fixture
def start(tmp_path):
    """Starts the script with what the trainer and the builder shall do."""
    (tmp_path / "python").write_text(PYTHON)
    (tmp_path / "python").chmod(0o755)

    def begin(trainer: str, builder: str) -> subprocess.Popen:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("XLA_")},
            **{"PYTHON": str(tmp_path / "python"), "CALLS": str(tmp_path / "calls"), "AGAIN_S": "0.1"},
            **{"FAKE_TRAINER": trainer, "FAKE_BUILDER": builder},
        }
        command = ["launch/one_gpu.sh", "gs://b/run", "--config=experiments/mini.py", "--seed=3"]
        return subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, text=True)

    return begin


def calls(tmp_path) -> list[str]:
    return (tmp_path / "calls").read_text().splitlines()


def test_they_share_the_memory_and_the_builder_indexes_the_last_weights(start, tmp_path):
    with start("sleep 0.5", TRIES) as both:
        assert both.wait(timeout=30) == 0
    builder, trainer = sorted(set(calls(tmp_path)))
    assert builder == ".20 -m realm_jax builder --workdir=gs://b/run"
    settings = "--index.device=accelerator --config=experiments/mini.py --seed=3"
    assert trainer == f".70 -m realm_jax run --workdir=gs://b/run {settings}"
    assert sum("builder" in call for call in calls(tmp_path)) == 3  # again until there was something to index


def test_a_trainer_that_fails_takes_the_builder_with_it(start, tmp_path):
    began = time.monotonic()
    with start("sleep 0.5; exit 9", f"echo $BASHPID >{tmp_path}/builder; sleep 60") as both:
        assert both.wait(timeout=30) == 9
    assert time.monotonic() - began < 30
    process = int((tmp_path / "builder").read_text())
    with pytest.raises(ProcessLookupError):
        for _ in range(100):
            os.kill(process, 0)
            time.sleep(0.05)


def test_sigterm_lets_the_trainer_save(start):
    saves = "trap 'echo saved; exit 1' TERM; echo trains; while true; do sleep 0.1; done"
    with start(saves, "sleep 60") as both:
        assert both.stdout.readline() == "trains\n"
        both.send_signal(signal.SIGTERM)
        assert both.wait(timeout=30) == 1
        assert both.stdout.read() == "saved\n"
