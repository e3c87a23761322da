"""The table of `kill_matrix.py`."""

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
