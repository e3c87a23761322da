"""metrics.jsonl: one whole line a step, also after a resume or a kill in mid-line."""

import json
import math
import re

import pytest
from etils import epath

from realm_jax import console, heartbeat
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


def test_the_console_line_has_what_people_watch(folder, capsys, monkeypatch):
    monkeypatch.setattr(console, "EVERY_S", 0.0)
    writer = MetricsWriter(folder, "toy", 1000, 0)
    values = {"loss": 2.5, "tokens_per_second": 9e3, "step_seconds": 0.1, "utility": 0.2, "index_age_steps": 40.0}
    writer.write(500, values)
    writer.close()
    line = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(
        r"toy: 500/1,000  10.0 steps/s  0:\d\d left  loss 2.500  utility \+0.200  index age 40 steps", line
    )
    assert records(folder)[0]["tokens_per_second"] == 9e3


def test_the_trainer_is_alive_until_the_writer_is_closed(folder):
    writer = MetricsWriter(folder, "toy", 10, 0)
    sign = heartbeat.read(folder)
    assert (sign["state"], sign["role"], sign["phase"], sign["steps"]) == ("runs", "trainer", "toy", 10)
    writer.close()
    assert heartbeat.read(folder)["state"] == "ended"
