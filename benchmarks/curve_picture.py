"""The picture of a long training: what the retriever finds and the encoder reads in results/curve.json, by steps.

Written as SVG by hand, so that it is the same whatever is installed. A panel for each question set (recall@5 without
fine-tuning, BM25 as a dashed line), one for what is read, one for what the blocks alone make right.
"""

import itertools

COLOURS = {"realm": "#a3303f", "frozen": "#33508f", "ict": "#2c7a4b"}
NAMES = {"realm": "REALM", "frozen": "retriever frozen", "ict": "more ICT"}
SETS = {
    "nq_open_dev": "Natural Questions",
    "squad_open_train": "SQuAD-open",
    "webquestions_train": "WebQuestions",
    "curatedtrec_train": "CuratedTREC",
}
PANELS = {
    **{f"recall@5, {name}": f"{title}: recall@5" for name, title in SETS.items()},
    "accuracy_retrieved": "held-out blanks: accuracy",
    "right with blocks alone": "right with blocks alone, less the reverse",
}
BESIDE = {"accuracy_retrieved": "accuracy_null"}
"""Measures that are drawn thinner in the panel of another."""
STYLE = (
    ".mid{text-anchor:middle} .end{text-anchor:end} .small{font-size:11px;fill:#444} .head{font-weight:bold;fill:#111} "
    ".grid{stroke:#e4e4e4} .line{fill:none;stroke-width:2} .thin{fill:none;stroke-dasharray:2 3} "
    ".bm25{stroke:#777;stroke-dasharray:6 4}"
)
COLUMNS, PANEL_WIDTH, PANEL_HEIGHT, LEFT, TOP = 2, 380, 220, 52, 40
WIDTH, LEGEND = COLUMNS * PANEL_WIDTH, 34
TICKS = 4


def svg(values: dict) -> str:
    """The picture.

    Args:
        values: of `benchmarks/curve.py`.
    """
    rows = -(-len(PANELS) // COLUMNS)
    height = rows * PANEL_HEIGHT + LEGEND
    title = f"A long training over {values['blocks']:,} blocks"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-labelledby="t" '
        'font-family="sans-serif" font-size="13">',
        f'<title id="t">{title}</title>',
        f"<style>{STYLE}</style>",
        f'<rect width="{WIDTH}" height="{height}" rx="8" fill="#ffffff"/>',
    ]
    for place, (measure, name) in zip(itertools.product(range(rows), range(COLUMNS)), PANELS.items(), strict=False):
        parts += [f'<g transform="translate({place[1] * PANEL_WIDTH} {place[0] * PANEL_HEIGHT})">']
        parts += [*_panel(values, measure, name), "</g>"]
    for number, arm in enumerate(values["arms"]):
        x, y = LEFT + 190 * number, height - 14
        parts.append(f'<path class="line" stroke="{COLOURS[arm]}" d="M{x} {y - 4}h24"/>')
        parts.append(f'<text x="{x + 30}" y="{y}">{NAMES[arm]}</text>')
    parts.append(f'<text class="small end" x="{WIDTH - 16}" y="{height - 14}">dashed: BM25; dotted: null block</text>')
    return "\n".join([*parts, "</svg>\n"])


def _panel(values: dict, measure: str, name: str) -> list[str]:
    """Axes and lines of one measure."""
    drawn = {key: _points(values, key) for key in (measure, BESIDE.get(measure)) if key}
    bm25 = values["bm25"].get(measure)
    means = [mean for of_arm in drawn.values() for points in of_arm.values() for _, mean in points]
    low, high = _bounds(means + ([bm25["mean"]] if bm25 else []))
    last = max(step for of_arm in drawn.values() for points in of_arm.values() for step, _ in points) or 1
    right, bottom = PANEL_WIDTH - 20, PANEL_HEIGHT - 28

    def x(step: float) -> float:
        return LEFT + (right - LEFT) * step / last

    def y(mean: float) -> float:
        return bottom - (bottom - TOP) * (mean - low) / (high - low)

    parts = [f'<text class="head mid" x="{(LEFT + right) / 2:g}" y="24">{name}</text>']
    for tick in range(TICKS + 1):
        mean, step = low + (high - low) * tick / TICKS, last * tick / TICKS
        parts.append(f'<path class="grid" d="M{LEFT} {y(mean):.1f}H{right}"/>')
        parts.append(f'<text class="small end" x="{LEFT - 6}" y="{y(mean) + 4:.1f}">{100 * mean:.1f}%</text>')
        parts.append(f'<text class="small mid" x="{x(step):.1f}" y="{bottom + 16}">{step:,.0f}</text>')
    if bm25:
        parts.append(f'<path class="bm25" d="M{LEFT} {y(bm25["mean"]):.1f}H{right}"/>')
    for key, of_arm in drawn.items():
        for arm, points in of_arm.items():
            path = "L".join(f"{x(step):.1f} {y(mean):.1f}" for step, mean in points)
            kind = "line" if key == measure else "thin"
            parts.append(f'<path class="{kind}" stroke="{COLOURS[arm]}" d="M{path}"/>')
    return parts


def _points(values: dict, measure: str) -> dict[str, list[tuple[int, float]]]:
    """By arm: step and mean, where it was measured."""
    found = {
        arm: [(row["step"], row[measure]["mean"]) for row in rows if measure in row]
        for arm, rows in values["arms"].items()
    }
    return {arm: points for arm, points in found.items() if points}


def _bounds(means: list[float]) -> tuple[float, float]:
    """What the axis spans: a tenth more than the values on both sides, at least two points of a hundred."""
    low, high = min(means), max(means)
    room = max(0.1 * (high - low), (0.02 - (high - low)) / 2)
    return low - room, high + room
