"""The table of what the host does for a step, from benchmarks/results/host.json."""

ROWS = {
    "masked queries a second": "masked queries/s",
    "with candidates, ms": "512 queries joined with 7 blocks each, ms",
    "packed, ms": "these packed, ms",
    "labels, substring, ms": "labels of 16 questions × 5,000 blocks by substring, ms",
    "labels, wordpieces, ms": "the same by wordpieces, ms",
    "labels, substring, slowest batch, ms": "by substring, the slowest batch: signatures are made, ms",
    "labels, wordpieces, slowest batch, ms": "by wordpieces, the slowest batch, ms",
    "spans, ms": "spans of 16 questions × 5 blocks, ms",
}


def markdown(values: dict) -> str:
    """One line for each part, of pre-training and of fine-tuning."""
    blocks, length = values["blocks"], values["mean block length in wordpieces"]
    parts = values["pre-training"] | values["fine-tuning"]
    lines = [f"**What the host does for a step, on one core** ({blocks:,} blocks of {length:.0f} wordpieces; medians)"]
    lines += ["", "| | |", "|---|---:|"]
    lines += [f"| {label} | {parts[key]:,} |" for key, label in ROWS.items()]
    return "\n".join([*lines, "", f"The machine's load before it: {values['load before']}."])
