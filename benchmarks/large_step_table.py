"""The table of `large_step.py`."""


def markdown(values: dict) -> str:
    kinds = {"compiled_gib": "compiled", "planned_gib": "planned", "peak_gib": "grown by at its peak"}
    head = f"**One step of REALM with two BERT-base** (96/288, k = 8, {values['devices']} fake devices of two queries)"
    cells = " | ".join(str(values[name]) for name in kinds)
    return f"{head}\n\n| GiB a device | {' | '.join(kinds.values())} |\n|---|---:|---:|---:|\n| a process | {cells} |"
