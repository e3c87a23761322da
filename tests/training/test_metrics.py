"""metrics.jsonl: one whole line a step, also after a resume or a kill in mid-line."""

import json
import math

import pytest
from etils import epath

from realm_jax import heartbeat
from realm_jax.training.metrics import MetricsWriter


@pytest.fixture
def folder(tmp_path):
    return epath.Path(tmp_path) / "phase"


def write(folder, first_step, steps, value=1.0):
    writer = MetricsWriter(folder, "toy", 10, first_step)
    for step in steps:
        writer.write(step, {"loss": value})
    writer.close()


def records(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_records(folder):
    write(folder, 0, [1, 2])
    assert [(r["step"], r["loss"]) for r in records(folder)] == [(1, 1.0), (2, 1.0)]
    assert all(r["time"] > 1e9 for r in records(folder))
    assert list((folder / "tensorboard").glob("events*"))


def test_what_is_not_finite_is_null(folder):
    writer = MetricsWriter(folder, "toy", 10, 0)
    writer.write(1, {"nan": math.nan, "infinite": math.inf, "rounded": 0.12345678})
    writer.close()
    (record,) = records(folder)
    assert record["nan"] is None and record["infinite"] is None and record["rounded"] == 0.123457


def test_a_resumed_run_replaces_the_steps_after_its_checkpoint(folder):
    write(folder, 0, [1, 2, 3, 4])
    write(folder, 2, [3, 4, 5], value=7.0)
    assert [(r["step"], r["loss"]) for r in records(folder)] == [(1, 1.0), (2, 1.0), (3, 7.0), (4, 7.0), (5, 7.0)]


@pytest.mark.parametrize("torn", ['{"step": 3, "lo', '{"loss": 1.0}', "{"])
def test_a_torn_last_line_is_dropped(folder, torn):
    write(folder, 0, [1, 2])
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(torn)
    write(folder, 2, [3])
    assert [r["step"] for r in records(folder)] == [1, 2, 3]


def test_a_last_line_that_lost_its_end_of_line_is_kept_apart(folder):
    write(folder, 0, [1, 2])
    file = folder / "metrics.jsonl"
    file.write_text(file.read_text().rstrip("\n"))
    write(folder, 2, [3])
    assert [r["step"] for r in records(folder)] == [1, 2, 3]


def test_the_console_line_names_phase_step_and_time_left(folder, capsys):
    write(folder, 0, [5])
    line = capsys.readouterr().out
    assert line.startswith("toy [##########..........] 5/10  loss 1") and "ETA" in line


def test_the_trainer_is_alive_until_the_writer_is_closed(folder):
    writer = MetricsWriter(folder, "toy", 10, 0)
    sign = heartbeat.read(folder)
    assert (sign["state"], sign["role"], sign["phase"], sign["steps"]) == ("runs", "trainer", "toy", 10)
    writer.close()
    assert heartbeat.read(folder)["state"] == "ended"
