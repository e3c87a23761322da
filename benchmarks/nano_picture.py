"""The picture of README.md: recall and utility by step in results/nano.json, REALM beside the frozen retriever.

Written as SVG by hand, so that it is the same whatever is installed. Recall was measured of every index version,
utility at the first and at the last step alone.
"""

REALM, FROZEN = "#33508f", "#b0641c"
STYLE = (
    ".mid{text-anchor:middle} .end{text-anchor:end} .small{font-size:12px;fill:#444} .head{font-weight:bold;fill:#111} "
    ".axis{stroke:#999} .grid{stroke:#e4e4e4} .line{fill:none;stroke-width:2.2} .dashed{stroke-dasharray:6 4}"
)
WIDTH, HEIGHT, TOP, BOTTOM = 880, 340, 64, 290


def svg(values: dict) -> str:
    """The picture.

    Args:
        values: of `benchmarks/nano.py`: summaries of the arms `realm` and `frozen`.
    """
    realm, frozen = (values[arm] for arm in ("realm", "frozen"))
    versions = realm["index"]["recall_by_version"]
    (frozen_version,) = frozen["index"]["recall_by_version"].values()
    last = max(map(int, versions))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="t" '
        'font-family="sans-serif" font-size="14">',
        '<title id="t">Recall and retrieval utility by training step: REALM beside a frozen retriever</title>',
        f"<style>{STYLE}</style>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="8" fill="#ffffff"/>',
    ]
    left = _Panel(60, 450, last, 0.8, "recall@1 of held-out sentences, by index version")
    parts += left.frame(ticks=(0, 0.2, 0.4, 0.6, 0.8), steps=range(0, last + 1, 200))
    for name, label in (("plain_recall@1", "plain"), ("hard_recall@1", "hard")):
        points = [(int(step), row[name]) for step, row in versions.items()]
        parts += [left.line(points, REALM), *(left.point(*point, REALM) for point in points)]
        parts.append(left.line([(0, frozen_version[name]), (last, frozen_version[name])], FROZEN, "dashed"))
        parts.append(left.label(last, points[-1][1], f"{label}, REALM", REALM))
        parts.append(left.label(last, frozen_version[name], f"{label}, frozen", FROZEN))
    right = _Panel(660, 750, last, 0.3, "retrieval utility")
    parts += right.frame(ticks=(0, 0.1, 0.2, 0.3), steps=(0, last))
    for arm, colour, text, apart in ((realm, REALM, "REALM", -9), (frozen, FROZEN, "frozen", 9)):
        for step, state in ((0, "after ICT"), (last, "after REALM")):
            cell = arm["states"][state]["utility"]
            parts += right.interval(step, cell["mean"], cell["half_width"], colour, apart)
        parts.append(right.label(last, cell["mean"], text, colour))
    parts.append(f'<text class="small mid" x="255" y="{HEIGHT - 12}">training step</text>')
    parts.append(f'<text class="small mid" x="705" y="{HEIGHT - 12}">training step (first and last)</text>')
    return "\n".join([*parts, "</svg>\n"])


class _Panel:
    """Axes between two positions from left to right: steps from 0 to `last`, values from 0 to `top`."""

    def __init__(self, left: float, right: float, last: int, top: float, title: str):
        self._left, self._right, self._last, self._top, self._title = left, right, last, top, title

    def x(self, step: float) -> float:
        return self._left + (self._right - self._left) * step / self._last

    def y(self, value: float) -> float:
        return BOTTOM - (BOTTOM - TOP) * value / self._top

    def frame(self, ticks, steps) -> list[str]:
        title = f'<text class="head mid" x="{(self._left + self._right) / 2:g}" y="34">{self._title}</text>'
        parts = [title]
        for tick in ticks:
            y, kind = self.y(tick), "grid" if tick else "axis"
            parts.append(f'<path class="{kind}" d="M{self._left - 20:g} {y:.1f}H{self._right + 20:g}"/>')
            parts.append(f'<text class="small end" x="{self._left - 26:g}" y="{y + 4:.1f}">{tick:g}</text>')
        for step in steps:
            parts.append(f'<text class="small mid" x="{self.x(step):.1f}" y="{BOTTOM + 20}">{step}</text>')
        return parts

    def line(self, points: list[tuple[int, float]], colour: str, kind: str = "") -> str:
        path = "L".join(f"{self.x(step):.1f} {self.y(value):.1f}" for step, value in points)
        return f'<path class="line {kind}" stroke="{colour}" d="M{path}"/>'

    def point(self, step: int, value: float, colour: str, apart: float = 0) -> str:
        return f'<circle cx="{self.x(step) + apart:.1f}" cy="{self.y(value):.1f}" r="4" fill="{colour}"/>'

    def interval(self, step: int, mean: float, half_width: float, colour: str, apart: float) -> list[str]:
        x, low, high = self.x(step) + apart, self.y(mean - half_width), self.y(mean + half_width)
        bar = f'<path stroke="{colour}" stroke-width="2" d="M{x:.1f} {low:.1f}V{high:.1f}"/>'
        return [bar, self.point(step, mean, colour, apart)]

    def label(self, step: int, value: float, text: str, colour: str) -> str:
        x, y = self.x(step) + 26, self.y(value) + 4
        return f'<text x="{x:.1f}" y="{y:.1f}" font-size="13" fill="{colour}">{text} {value:.2f}</text>'
