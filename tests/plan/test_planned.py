"""A plan follows from settings, corpus and hardware; what people and scripts see are the same figures."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

from realm_jax.experiments import base_wikipedia
from realm_jax.plan import corpus_size, hardware, plan_table, planned, work
from realm_jax.plan.advice import changed

BLOCKS = 13_353_718
CORPUS = corpus_size.assumed(BLOCKS, 288)
V3, V4 = hardware.named("v3-8"), hardware.named("v4-32")
BASE = base_wikipedia.get_config()
EMBEDDING = work.of_embedding(BASE.model, [(BLOCKS, 288)])


def phase(plan: planned.Plan, name: str) -> planned.PhasePlan:
    (found,) = [phase for phase in plan.phases if phase.phase == name]
    return found


def test_seconds_are_flops_over_what_devices_sustain():
    plan = planned.plan(BASE, CORPUS, V3, utilization=0.5)
    step = phase(plan, "pretrain")
    assert step.step_seconds == pytest.approx(step.flops.all / (8 * 61.5e12 * 0.5))
    assert step.hours == pytest.approx(200_000 * step.step_seconds / 3600)
    assert plan.first_index_seconds == pytest.approx(EMBEDDING / (8 * 61.5e12 * 0.5))
    total = step.hours + phase(plan, "ict").hours + plan.first_index_seconds / 3600
    assert plan.hours == pytest.approx(total)
    half = planned.plan(BASE, CORPUS, V3, utilization=0.25)
    assert half.hours == pytest.approx(2 * plan.hours)


def test_a_builder_of_that_many_devices_keeps_up_and_one_fewer_does_not():
    plan = planned.plan(BASE, CORPUS, V3)
    device_seconds = EMBEDDING / (61.5e12 * planned.SUSTAINED["tpu"])
    needed = plan.refresh.builder_devices
    assert device_seconds / needed <= plan.refresh.every_seconds < device_seconds / (needed - 1)
    assert plan.refresh.every_seconds == 500 * phase(plan, "pretrain").step_seconds
    assert plan.refresh.versions == 400


def test_an_index_inside_the_trainer_takes_its_time():
    own = planned.plan(BASE, CORPUS, V3)
    inline = planned.plan(changed(BASE, {"index.device": "inline"}), CORPUS, V3)
    extra = 3600 * (phase(inline, "pretrain").hours - phase(own, "pretrain").hours)
    assert extra == pytest.approx(400 * own.first_index_seconds) and not inline.refresh.builder_devices


def test_a_hosts_cpu_beside_accelerators_is_not_guessed():
    plan = planned.plan(changed(BASE, {"index.device": "cpu"}), CORPUS, V3)
    assert plan.refresh.seconds is None and not phase(plan, "pretrain").index_seconds
    assert any("the host's CPU keeps up if it has" in line for line in plan_table.lines(plan))


def test_an_index_that_stays_is_built_once():
    plan = planned.plan(changed(BASE, {"pretrain.index_refresh_every": 0}), CORPUS, V3)
    assert plan.refresh.versions == plan.refresh.builder_devices == 0
    assert any("it is built once" in line for line in plan_table.lines(plan))


def test_measured_steps_take_the_place_of_the_assumption():
    measured = {"ict": 3.0, "pretrain": 7.0}
    plan = planned.plan(BASE, CORPUS, V3, measured=measured)
    assert {name: phase(plan, name).step_seconds for name in measured} == measured
    sustained = phase(plan, "pretrain").flops.all / 7.0  # by all devices, also where they embed
    assert plan.first_index_seconds == pytest.approx(EMBEDDING / sustained)
    assert plan.utilization == pytest.approx(sustained / (8 * 61.5e12))


def test_real_lengths_cost_what_they_are():
    short = replace(CORPUS, lengths=np.full(1000, 100), blocks=1000)
    assert planned.plan(BASE, short, V3).refresh.flops == pytest.approx(
        work.of_embedding(BASE.model, [(1000, 112)]),
        rel=0.2,  # and the rows of padding of the last batch
    )


def test_what_does_not_fit_says_what_to_change():
    plain = changed(
        BASE,
        {
            "model.gradient_checkpointing": False,
            "ict.micro_batch": 0,
            "pretrain.micro_batch": 0,
            "pretrain.micro_candidates": 0,
        },
    )
    plan = planned.plan(plain, CORPUS, V3)
    assert phase(plan, "pretrain").advice.startswith("a step of pretrain needs ")
    assert phase(plan, "pretrain").advice in plan_table.lines(plan)
    flags = phase(plan, "pretrain").advice.partition("pass ")[2].split()
    mended = changed(
        plain, {name.removeprefix("--"): int(value) for name, value in (flag.split("=") for flag in flags)}
    )
    assert not phase(planned.plan(mended, CORPUS, V3), "pretrain").advice


def test_bytes_on_host_and_disk():
    plan = planned.plan(BASE, CORPUS, V3)
    assert plan.host["builder: ScaNN over a version"] == 1672 * BLOCKS
    assert plan.disk["3 checkpoints of pre-training"] == 3 * 12 * 219_095_226
    assert plan.disk["3 index versions"] == 3 * BLOCKS * (256 + 73)
    exact = planned.plan(changed(BASE, {"index.search": "exact"}), CORPUS, V4)
    assert not exact.host["builder: ScaNN over a version"]
    on_a_host = phase(exact, "pretrain").memory.beside["exact search"] * 4 / 2  # devices; two versions
    assert on_a_host == pytest.approx(BLOCKS * 256, rel=1e-5)


def test_scripts_get_what_people_see():
    plan = planned.plan(BASE, CORPUS, V3)
    values = json.loads(json.dumps(plan_table.as_json(plan)))
    assert values["parameters"] == plan.parameters and values["corpus"]["blocks"] == BLOCKS
    for value, own in zip(values["phases"], plan.phases, strict=True):
        assert value["device_bytes"] == own.memory.total and value["hours"] == own.hours
    phases, device, *_ = plan_table.tables(plan)
    shown = dict(zip(phases.header, phases.rows[1], strict=True))
    assert shown["GiB a device"] == f"{phase(plan, 'pretrain').memory.total / 2**30:,.1f}"
    parts = [float(row[2].replace(",", "")) for row in device.rows]
    assert math.fsum(parts) == pytest.approx(phase(plan, "pretrain").memory.total / 2**30, abs=0.01 * len(parts))


def test_plans_side_by_side():
    plans = [planned.plan(BASE, CORPUS, machine) for machine in (V3, V4)]
    table = plan_table.compared(plans)
    assert table.header == ["", "v3-8", "v4-32"]
    rows = {row[0]: row[1:] for row in table.rows}
    assert rows["devices, hosts"] == ["8, 1", "16, 4"]
    assert rows["the same, device-hours"][1] == f"{plans[1].hours * 16:,.0f}"


def test_the_line_of_an_opening():
    said = plan_table.one_line(planned.plan(BASE, CORPUS, V3))
    assert said.endswith(" days on v3-8 (calculated)") and "GiB of a device's memory, about " in said
    empty = plan_table.one_line(planned.plan(BASE, corpus_size.assumed(0, 288), V3))
    assert "without the index" in empty
