"""The picture of docs/search.md: recall@5 against queries a second in results/search.json, a line for each engine.

Written as SVG by hand, so that it is the same whatever is installed. A line joins an engine's settings that no other of
its settings beats in both recall and speed; recall is drawn by what is missed, so that 0.9, 0.99 and 0.999 are as far
apart.
"""

import math

COLOURS = {
    "scann": "#33508f",
    "scann SOAR": "#0d8fb0",
    "exact": "#111111",
    "faiss Flat": "#777777",
    "faiss IVF": "#b0641c",
    "faiss IVF-PQ": "#a3303f",
    "faiss HNSW": "#2c7a4b",
}
STYLE = (
    ".mid{text-anchor:middle} .end{text-anchor:end} .small{font-size:12px;fill:#444} .head{font-weight:bold;fill:#111} "
    ".grid{stroke:#e4e4e4} .line{fill:none;stroke-width:2.2} .goal{stroke:#999;stroke-dasharray:6 4}"
)
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 420, 80, 600, 56, 360
RECALLS = (0.8, 0.9, 0.95, 0.99, 0.999)


def svg(values: dict) -> str:
    """The picture.

    Args:
        values: of `benchmarks/search.py`.
    """
    fronts = {engine: front(values["rows"], engine) for engine in COLOURS}
    rates = [row["queries_per_s"] for rows in fronts.values() for row in rows]
    decades = range(math.floor(math.log10(min(rates))), math.ceil(math.log10(max(rates))) + 1)
    title = f"recall@5 and queries/s on one core, {values['blocks']:,} blocks"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="t" '
        'font-family="sans-serif" font-size="14">',
        f'<title id="t">{title}</title>',
        f"<style>{STYLE}</style>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="8" fill="#ffffff"/>',
        f'<text class="head mid" x="{(LEFT + RIGHT) / 2:g}" y="30">{title}</text>',
    ]
    for decade in decades:
        y = _y(10**decade, decades)
        parts.append(f'<path class="grid" d="M{LEFT} {y:.1f}H{RIGHT}"/>')
        parts.append(f'<text class="small end" x="{LEFT - 8}" y="{y + 4:.1f}">{10**decade:,}</text>')
    for recall in RECALLS:
        kind = "goal" if recall == values["recall_wanted"] else "grid"
        parts.append(f'<path class="{kind}" d="M{_x(recall):.1f} {TOP}V{BOTTOM}"/>')
        parts.append(f'<text class="small mid" x="{_x(recall):.1f}" y="{BOTTOM + 20}">{recall:g}</text>')
    for engine, rows in fronts.items():
        parts += _line(engine, rows, decades)
    parts.append(f'<text class="small mid" x="{(LEFT + RIGHT) / 2:g}" y="{HEIGHT - 16}">recall@5</text>')
    return "\n".join([*parts, *_legend(fronts), "</svg>\n"])


def front(rows: list[dict], engine: str) -> list[dict]:
    """The rows of an engine that none of its rows beats in both, by recall; those below the picture are left out."""
    own = sorted((r for r in rows if r["engine"] == engine), key=lambda r: (-r["recall_at_5"], -r["queries_per_s"]))
    kept: list[dict] = []
    for row in own:
        if row["recall_at_5"] >= RECALLS[0] and (not kept or row["queries_per_s"] > kept[-1]["queries_per_s"]):
            kept.append(row)
    return kept[::-1]


def _line(engine: str, rows: list[dict], decades: range) -> list[str]:
    colour = COLOURS[engine]
    places = [(_x(row["recall_at_5"]), _y(row["queries_per_s"], decades)) for row in rows]
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
    parts = [f'<path class="line" stroke="{colour}" d="M{path}"/>'] if len(places) > 1 else []
    return parts + [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}"/>' for x, y in places]


def _legend(fronts: dict) -> list[str]:
    """Names of the engines, the fastest above."""
    names = sorted(fronts, key=lambda engine: -max((row["queries_per_s"] for row in fronts[engine]), default=0))
    places = ((name, TOP + 24 * number) for number, name in enumerate(names))
    return [f'<text x="{RIGHT + 24}" y="{y}" fill="{COLOURS[name]}">{name}</text>' for name, y in places]


def _x(recall: float) -> float:
    """Where a recall is drawn; more than the last tick lies at the right edge."""
    missed = max(1 - recall, (1 - RECALLS[-1]) / 2)
    span = math.log(1 - RECALLS[0]) - math.log((1 - RECALLS[-1]) / 2)
    return LEFT + (RIGHT - LEFT) * (math.log(1 - RECALLS[0]) - math.log(missed)) / span


def _y(rate: float, decades: range) -> float:
    return BOTTOM - (BOTTOM - TOP) * (math.log10(rate) - decades[0]) / (decades[-1] - decades[0])
