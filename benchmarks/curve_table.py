"""The table of benchmarks/curve.py: the first and the last state of each arm."""

from curve_picture import NAMES, SETS

MEASURES = {
    "supply: the span is among the first 20 other blocks": "span among the first 20",
    "accuracy, retrieved blocks": "accuracy_retrieved",
    "accuracy, null block": "accuracy_null",
    "right with blocks alone, less the reverse": "right with blocks alone",
    "utility where a block has the span": "utility with the answer",
    "utility elsewhere": "utility without",
}


def markdown(values: dict) -> str:
    """Recall on questions, with what an arm has more than at its first step, and what is read of held-out blanks."""
    arms = {arm: sorted(values["arms"][arm], key=lambda row: row["step"]) for arm in NAMES if arm in values["arms"]}
    states = [(f"{NAMES[arm]}, step {rows[-1]['step']:,}", rows[-1]) for arm, rows in arms.items()]
    warm = next((arms[arm][0] for arm in ("realm", "frozen") if arm in arms), None)  # the same in both
    states = [("the retriever after ICT", warm), *states] if warm else states
    lines = [
        f"**A long training** (`experiments/passages.py`; {values['blocks']:,} blocks; mean, and what it has more than "
        "at the arm's first step ± half the 95% interval; in percent, utility in nats)",
        "",
        f"| | {' | '.join(name for name, _ in states)} | BM25 | n |",
        "|---|" + "---:|" * (len(states) + 2),
    ]
    for name, title in SETS.items():
        key = f"recall@5, {name}"
        cells = [_recall(row, key) for _, row in states]
        bm25 = values["bm25"][key]
        lines.append(f"| {title}: recall@5 | {' | '.join(cells)} | {100 * bm25['mean']:.1f} | {bm25['n']:,} |")
    for title, key in MEASURES.items():
        cells = [_plain(row.get(key), key) for _, row in states]
        n = next(row[key]["n"] for _, row in states if key in row)
        lines.append(f"| {title} | {' | '.join(cells)} | {_plain(values['bm25'].get(key), key)} | {n:,} |")
    return "\n".join(lines)


def _recall(row: dict, key: str) -> str:
    more, shown = row["more than at first"][key], f"{100 * row[key]['mean']:.1f}"
    return shown if row["step"] == 0 else f"{shown} ({100 * more['mean']:+.1f} ±{100 * more['half_width']:.1f})"


def _plain(value: dict | None, key: str) -> str:
    """Empty where it was not measured."""
    if value is None:
        return ""
    if key.startswith("utility"):
        return f"{value['mean']:+.2f} ±{value['half_width']:.2f}"
    return f"{100 * value['mean']:.1f} ±{100 * value['half_width']:.1f}"
