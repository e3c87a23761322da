"""A plan for people: lines and tables, of one plan or of several side by side; and for scripts, as JSON."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from realm_jax.plan.planned import PhasePlan, Plan
from realm_jax.report import Table

GIB, GB, GIGA, TERA = 2**30, 10**9, 10**9, 10**12
NAMES = {"ict": "ICT", "pretrain": "pre-training", "finetune": "fine-tuning"}


def lines(plan: Plan) -> list[str]:
    """What the plan is for, and what it says in words."""
    hardware, corpus = plan.hardware, plan.corpus
    bandwidth = f", {hardware.bandwidth / GB:,.0f} GB/s" if hardware.bandwidth else ""
    host = f" of {hardware.host_memory_bytes / GIB:,.0f} GiB" if hardware.host_memory_bytes else ""
    lengths = "their own lengths" if corpus.lengths is not None else "each as long as allowed"
    parameters = ", ".join(f"{name} {count:,}" for name, count in plan.parameters.items())
    machine = f"{_count(hardware.devices, 'device')}, {_count(hardware.hosts, 'host')}{host}"
    device = f"{_rate(hardware.peak_flops)}, {hardware.memory_bytes / GIB:,.1f} GiB{bandwidth}"
    return [
        f"{plan.config.name} on {hardware.name}: {machine}; a device has {device} ({hardware.source})",
        f"blocks: {corpus.blocks:,}, {lengths}, {corpus.disk_bytes / GB:,.1f} GB",
        f"parameters: {sum(plan.parameters.values()):,} ({parameters})",
        _speed(plan),
        f"index: {_refreshed(plan)}",
        *(phase.advice for phase in plan.phases if phase.advice),
        "calculated, not measured; compiling, reading and evaluation are not counted",
    ]


def tables(plan: Plan) -> list[Table]:
    """Phases, memory of a device, of a host, and disk."""
    return [
        _phases(plan),
        _devices(plan),
        _sizes("host memory, by part", plan.host),
        _sizes("disk, by part", plan.disk),
    ]


def one_line(plan: Plan) -> str:
    """The summary for a run's opening: memory of a device, time and hardware."""
    memory = max(phase.memory.total for phase in plan.phases if phase.phase != "finetune")
    index = "" if plan.corpus.blocks else " without the index"
    return (
        f"{memory / GIB:.1f} GiB of a device's memory, about {_clock(plan.hours * 3600)}{index} on "
        f"{plan.hardware.says} (calculated)"
    )


def compared(plans: Sequence[Plan]) -> Table:
    """Several plans of one experiment, a column each."""
    rows = [
        ["devices, hosts", *(f"{plan.hardware.devices}, {plan.hardware.hosts}" for plan in plans)],
        *(_row(plans, phase, what) for phase in NAMES for what in ("memory", "step", "hours")),
        ["an index version, minutes", *(_minutes(plan.refresh.seconds) for plan in plans)],
        [
            f"devices that build one every {plans[0].config.pretrain.index_refresh_every} steps",
            *(f"{plan.refresh.builder_devices or ''}" for plan in plans),
        ],
        ["ICT, first index and pre-training, days", *(f"{plan.hours / 24:,.1f}" for plan in plans)],
        ["the same, device-hours", *(f"{plan.hours * plan.hardware.devices:,.0f}" for plan in plans)],
    ]
    return Table(["", *(plan.hardware.name for plan in plans)], rows, words=[""])


def as_json(plan: Plan) -> dict[str, Any]:
    """All figures, in bytes, seconds and FLOPs."""
    corpus = {key: value for key, value in vars(plan.corpus).items() if key != "lengths"}
    return {
        "experiment": plan.config.name,
        "hardware": dataclasses.asdict(plan.hardware),
        "corpus": corpus | {"lengths_known": plan.corpus.lengths is not None},
        "utilization": plan.utilization,
        "measured_step_seconds": plan.measured,
        "parameters": plan.parameters,
        "phases": [
            dataclasses.asdict(phase)
            | {"hours": phase.hours, "device_hours": phase.hours * plan.hardware.devices}
            | {"device_bytes": phase.memory.total, "fits": not phase.advice}
            for phase in plan.phases
        ],
        "first_index_seconds": plan.first_index_seconds,
        "refresh": dataclasses.asdict(plan.refresh),
        "hours": plan.hours,
        "host_bytes": plan.host,
        "disk_bytes": plan.disk,
    }


def _rate(flops: float) -> str:
    return f"{flops / TERA:,.3g} TFLOP/s" if flops >= TERA else f"{flops / GIGA:,.3g} GFLOP/s"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _speed(plan: Plan) -> str:
    said = f"speed: {_rate(plan.hardware.peak_flops * plan.utilization)} a device, {plan.utilization:.0%} of its peak, "
    if not plan.measured:
        return said + "are assumed"
    return said + f"by measured steps ({', '.join(f'{NAMES[p]} {s:.3g} s' for p, s in plan.measured.items())})"


def _refreshed(plan: Plan) -> str:
    refresh, every = plan.refresh, plan.config.pretrain.index_refresh_every
    work = f"a version embeds {plan.corpus.blocks:,} blocks, {refresh.flops:.2e} FLOP"
    if not every:
        return f"{work}; it is built once"
    due = f"one is due every {every:,} steps, {_clock(refresh.every_seconds)}"
    if refresh.seconds is None:
        needed = _rate(refresh.flops / refresh.every_seconds)
        return f"{work}; {due}: the host's CPU keeps up if it has {needed} (index.device=cpu)"
    takes = f"{work}, {_clock(refresh.seconds)} on as many devices; {due}"
    if refresh.builder_devices:
        return f"{takes}: a builder with {refresh.builder_devices:,} such devices keeps up"
    share, device = refresh.seconds / (refresh.seconds + refresh.every_seconds), plan.config.index.device
    return f"{takes}: {share:.0%} of the time of pre-training goes into the index (index.device={device})"


def _phases(plan: Plan) -> Table:
    header = ["phase", "steps", "FLOP a step", "again", "s a step", "time", "device-hours", "GiB a device", "fits"]
    rows = [
        [
            NAMES[phase.phase],
            f"{phase.steps:,}",
            f"{phase.flops.model:.2e}",
            f"{phase.flops.again / phase.flops.model:.0%}",
            f"{phase.step_seconds:,.3g}",
            _clock(3600 * phase.hours),
            f"{phase.hours * plan.hardware.devices:,.1f}",
            f"{phase.memory.total / GIB:,.1f}",
            "no" if phase.advice else "yes",
        ]
        for phase in plan.phases
    ]
    return Table(header, rows, words=["phase", "fits"])


def _devices(plan: Plan) -> Table:
    parts = [*plan.phases[0].memory.step, *plan.phases[0].memory.beside]
    rows = [
        [part, *(f"{(phase.memory.step | phase.memory.beside)[part] / GIB:,.2f}" for phase in plan.phases)]
        for part in parts
    ]
    return Table(
        ["GiB of a device, by part", *(NAMES[phase.phase] for phase in plan.phases)],
        rows,
        words=["GiB of a device, by part"],
    )


def _sizes(title: str, parts: dict[str, int]) -> Table:
    rows = [[part, f"{size / GB:,.1f}" if size >= GB else f"{size / GB:.2g}"] for part, size in parts.items() if size]
    return Table([title, "GB"], rows, words=[title])


def _row(plans: Sequence[Plan], name: str, what: str) -> list[str]:
    titles = {"memory": "GiB of a device", "step": "seconds a step", "hours": "hours"}

    def cell(phase: PhasePlan) -> str:
        if what == "memory":
            return f"{phase.memory.total / GIB:,.1f}{' (does not fit)' if phase.advice else ''}"
        return f"{phase.step_seconds:,.3g}" if what == "step" else f"{phase.hours:,.1f}"

    cells = ["".join(cell(phase) for phase in plan.phases if phase.phase == name) for plan in plans]
    return [f"{NAMES[name]}: {titles[what]}", *cells]


def _minutes(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds / 60:,.0f}"


def _clock(seconds: float) -> str:
    """About how long, in one unit."""
    for size, unit in ((86400, "days"), (3600, "hours"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:,.1f} {unit}" if unit != "min" else f"{seconds / size:.0f} min"
    return f"{seconds:.0f} s"
