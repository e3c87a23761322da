"""The tables of `kill_matrix.py` and `soak.py`."""

from realm_jax.faults import POINTS

COMMANDS = ("run", "builder", "finetune", "eval")


def markdown(values: dict) -> str:
    lines = [
        f"**The kill matrix**: {values['passed']} of {values['cases']} cases end as an unbroken run "
        f"({values['minutes']} minutes)",
        "",
        "| command | it is ended where | cases | passed | seconds to its end, by a signal (most) |",
        "|---|---|---:|---:|---:|",
    ]
    for row in sorted(
        values["rows"], key=lambda row: (COMMANDS.index(row["command"]), list(POINTS).index(row["point"]))
    ):
        seconds = "" if row["most"] is None else f"{row['seconds to the end']} ({row['most']})"
        point = f"{row['point']}: {POINTS[row['point']]}"
        lines.append(f"| {row['command']} | {point} | {row['cases']} | {row['passed']} | {seconds} |")
    return "\n".join(lines)


SAYS = {
    "pretrain: KiB a second": "a trainer in its first minutes: resident memory grows by KiB a second",
    "pretrain: descriptors a minute": "a trainer in its first minutes: open files grow by, a minute",
    "KiB a step": "resident memory grows by KiB a step",
}
"""What is said of a count whose own name says too little."""


def soak(values: dict) -> str:
    """One line for each thing that was counted; what the replay is at the end."""
    counted = {key: value for key, value in values.items() if key not in ("minutes", "the replay")}
    lines = [f"**The soak**: {values['minutes']:g} minutes", "", "| | |", "|---|---:|"]
    lines += [f"| {SAYS.get(key, key)} | {_shown(value)} |" for key, value in counted.items()]
    lines += [f"| the replay: {SAYS.get(key, key)} | {_shown(value)} |" for key, value in values["the replay"].items()]
    return "\n".join(lines)


def _shown(value: float | str | dict) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_shown(one)}" for key, one in value.items())
    return value if isinstance(value, str) else f"{value:,}"
