"""The table of `soak.py`."""


def markdown(values: dict) -> str:
    """One line for each thing that was counted; what the replay is at the end."""
    counted = {key: value for key, value in values.items() if key not in ("minutes", "the replay")}
    lines = [f"**The soak**: {values['minutes']:g} minutes", "", "| | |", "|---|---:|"]
    lines += [f"| {key} | {_shown(value)} |" for key, value in counted.items()]
    lines += [f"| the replay: {key} | {_shown(value)} |" for key, value in values["the replay"].items()]
    return "\n".join(lines)


def _shown(value: float | str | dict) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_shown(one)}" for key, one in value.items())
    return value if isinstance(value, str) else f"{value:,}"
