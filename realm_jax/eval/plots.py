"""Plots of the question-answering report as inline SVG: text stays text, and ink follows the page, dark or light."""

import io
import re
from collections.abc import Callable

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

INK = "#010203"  # stands for the page's text colour, which matplotlib cannot name
COLOURS = ("#2b83ba", "#d7301f", "#1a9850", "#b8860b", "#8856a7")  # readable on black and on white
MARKERS = "osD^v"
_STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],
    **dict.fromkeys(("axes.edgecolor", "axes.labelcolor", "text.color", "xtick.color", "ytick.color"), INK),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
}


def recall_curves(table: dict[str, dict[str, dict]]) -> str:
    """Recall in percent by k (logarithmic) for each state, with 95% intervals: {state: {"recall@k": {"mean": …}}}."""

    def draw(axes: Axes) -> None:
        ticks = set()
        for i, (state, row) in enumerate(table.items()):
            ks = [int(name.split("@")[1]) for name in row]
            means, widths = ([100 * (cell[key] or 0) for cell in row.values()] for key in ("mean", "half_width"))
            style = {"color": COLOURS[i % len(COLOURS)], "marker": MARKERS[i % len(MARKERS)], "capsize": 3}
            axes.errorbar(ks, means, widths, label=state, **style)
            ticks |= set(ks)
        axes.set_xscale("log")
        axes.set_xticks(sorted(ticks), [str(k) for k in sorted(ticks)])
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set(xlabel="k", ylabel="recall@k, %", ylim=(0, 100))
        axes.legend()

    return _svg("recall by k", draw)


def exact_match_by_rank(groups: dict[str, dict]) -> str:
    """Bars of exact match in percent, with 95% intervals: {ranks: {"mean", "low", "high", "n"}}."""

    def draw(axes: Axes) -> None:
        means, lows, highs = ([100 * group[key] for group in groups.values()] for key in ("mean", "low", "high"))
        ends = [
            [m - low for m, low in zip(means, lows, strict=True)],
            [h - m for m, h in zip(means, highs, strict=True)],
        ]
        names = [f"{name}\nn {group['n']}" for name, group in groups.items()]
        axes.bar(names, means, color=COLOURS[0], yerr=ends, capsize=3, ecolor=INK)
        axes.set(xlabel="rank of the first block with an answer", ylabel="exact match, %", ylim=(0, 100))

    return _svg("exact match by rank", draw)


def calibration(bins: list[dict]) -> str:
    """Exact match by probability in percent: [{"confidence", "accuracy", "n"}]; on the diagonal where they agree."""

    def draw(axes: Axes) -> None:
        axes.plot([0, 100], [0, 100], color=INK, linestyle=":", linewidth=1)
        points = [[100 * part[key] for part in bins] for key in ("confidence", "accuracy")]
        axes.plot(*points, color=COLOURS[0], marker=MARKERS[0])
        axes.set(xlabel="mean probability, %", ylabel="exact match, %", xlim=(0, 100), ylim=(0, 100))

    return _svg("calibration", draw)


def _svg(name: str, draw: Callable[[Axes], None]) -> str:
    """An `<svg>` element without size of its own; the same drawing gives the same text."""
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(5.6, 3.4), layout="constrained")
        draw(figure.add_subplot())
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = out.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' id="[A-Za-z0-9.]+_[0-9_]+"', "", svg)  # the same in every figure, and nothing refers to them
    return re.sub(
        r'^<svg (.*?) width="\S+" height="\S+"', rf'<svg \1 role="img" aria-label="{name}"', svg, count=1
    ).strip()
