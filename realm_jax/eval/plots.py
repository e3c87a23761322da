"""Plots of the question-answering report as inline SVG (see `drawing.svg`)."""

from matplotlib.axes import Axes
from matplotlib.ticker import NullLocator

from realm_jax.drawing import COLOURS, INK, svg

MARKERS = "osD^v"


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

    return svg("recall by k", draw)


def by_blocks(counts: dict[str, dict]) -> str:
    """Exact match and the reader's oracle in percent by the number of blocks read (logarithmic), with 95% intervals."""

    def draw(axes: Axes) -> None:
        for i, (key, name) in enumerate({"exact_match": "exact match", "reader_oracle": "reader's oracle"}.items()):
            means, lows, highs = ([100 * of[key][end] for of in counts.values()] for end in ("mean", "low", "high"))
            ends = [[m - low for m, low in zip(means, lows, strict=True)]]
            ends.append([high - m for m, high in zip(means, highs, strict=True)])
            style = {"color": COLOURS[i], "marker": MARKERS[i], "capsize": 3}
            axes.errorbar(list(map(int, counts)), means, ends, label=name, **style)
        axes.set_xscale("log")
        axes.set_xticks(list(map(int, counts)), list(counts))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set(xlabel="blocks read", ylabel="questions, %", ylim=(0, 100))
        axes.legend()

    return svg("exact match by blocks read", draw)


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

    return svg("exact match by rank", draw)


def calibration(bins: list[dict]) -> str:
    """Exact match by probability in percent: [{"confidence", "accuracy", "n"}]; on the diagonal where they agree."""

    def draw(axes: Axes) -> None:
        axes.plot([0, 100], [0, 100], color=INK, linestyle=":", linewidth=1)
        points = [[100 * part[key] for part in bins] for key in ("confidence", "accuracy")]
        axes.plot(*points, color=COLOURS[0], marker=MARKERS[0])
        axes.set(xlabel="mean probability, %", ylabel="exact match, %", xlim=(0, 100), ylim=(0, 100))

    return svg("calibration", draw)
