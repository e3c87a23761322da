"""The line of the plan in what a run says before it begins."""

import re

from realm_jax.plan import hardware
from realm_jax.training import opening


def plan_line(workdir) -> str:
    (line,) = [line for line in opening.opening(workdir).splitlines() if line.startswith("plan: ")]
    return line


def test_it_has_memory_and_time_of_this_machine(tiny_run):
    said = plan_line(tiny_run)
    assert re.fullmatch(r"plan: [\d.]+ GiB of a device's memory, about .+ on \d+ CPU cores \(calculated\)", said)
    assert "without the index" not in said


def test_where_the_corpus_has_yet_to_be_built(tiny_run, monkeypatch):
    monkeypatch.setattr(type(tiny_run), "knowledge_folder", tiny_run.path / "nothing")
    assert "without the index" in plan_line(tiny_run)


def test_devices_that_no_table_has_are_no_error(tiny_run, monkeypatch):
    assert hardware.of_devices("TPU v2", 8, 1) is None
    monkeypatch.setattr(opening.hardware, "of_devices", lambda *_: None)
    assert re.fullmatch(r"plan: [\d.]+ GiB of a device's memory \(calculated\)", plan_line(tiny_run))
