"""The table of compiled memory is of the experiments as they are; each of their steps fits where it was compiled."""

import json
import pathlib
import runpy

import pytest

from realm_jax.experiments_file import load_experiment
from realm_jax.plan import device_memory, hardware

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
BENCHMARKS = REPOSITORY / "benchmarks"
ROWS = json.loads((BENCHMARKS / "results" / "compiled_memory.json").read_text())["values"]["rows"]


@pytest.fixture(scope="module")
def script():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        return runpy.run_path(str(BENCHMARKS / "compiled_memory.py"))


def test_rows_are_of_the_steps_and_the_hardware_once_each(script):
    known = {(c, p, h) for c in script["EXPERIMENTS"] for p in script["PHASES"] for h in script["TARGETS"]}
    found = [(row["config"], row["phase"], row["hardware"]) for row in ROWS]
    assert set(found) == known and len(found) == len(known)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row['config']} {row['phase']} {row['hardware']}")
def test_it_fits_with_the_experiments_own_settings(row):
    config = load_experiment(str(REPOSITORY / row["config"]))
    section = getattr(config, row["phase"])
    assert (row["batch_size"], row["micro_batch"]) == (section.batch_size, section.micro_batch)
    assert row["gradient_checkpointing"] == config.model.gradient_checkpointing
    assert row["fits"] and row["reserved_gib"] < row["memory_gib"]


@pytest.mark.parametrize(
    "row",
    [row for row in ROWS if row["hardware"].startswith("v")],
    ids=lambda row: "{config} {phase} {hardware}".format_map(row),
)
def test_the_plan_of_a_tpu_is_its_compilers_within_15_percent(row):
    config, devices = load_experiment(str(REPOSITORY / row["config"])), hardware.named(row["hardware"]).devices
    planned = device_memory.of_phase(config, row["phase"], devices, platform="tpu")
    assert sum(planned.step.values()) / 2**30 == pytest.approx(row["reserved_gib"], rel=0.15)


def test_steps_that_differ_in_names_alone_are_compiled_once(script):
    wikipedia, ccnews, tpu = (
        script["without_names"](load_experiment(str(REPOSITORY / name))) for name in script["EXPERIMENTS"]
    )
    assert wikipedia == ccnews != tpu
