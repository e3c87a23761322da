"""The page about a corpus: its sizes, what was left out, lengths as histograms, frequent spans, and some blocks."""

import numpy as np
from jaxtyping import Int
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from realm_jax import drawing, report
from realm_jax.data.show import show_block
from realm_jax.data.show.census import Census, FrequentSpan
from realm_jax.data.show.show_block import ShownBlock
from realm_jax.report import Figure, Markup, Section, Table

NOTHING = "Nothing."
DROPPED = ("when", "reason", "how many")
OF_SPANS = "Spans of one type whose texts differ in case alone are counted together."
MAX_BARS = 60
TAIL = 0.995  # share of the whole that a histogram draws bar by bar; the rest is in its last bar
LENGTHS = {
    "wordpieces of a block": "wordpieces_of_block",
    "sentences of a block": "sentences_of_block",
    "blocks of an article": "blocks_of_article",
    "spans of a sentence": "spans_of_sentence",
}


def corpus_page(
    name: str,
    facts: list[tuple[str, str]],
    census: Census,
    drops: list[tuple[str, str, int]],
    frequent: list[FrequentSpan],
    blocks: list[ShownBlock],
    types: list[str],
) -> str:
    """Makes the whole page; all arguments are plain texts and numbers.

    Args:
        facts: (what, value) about the corpus.
        drops: (when, reason, how many).
        types: all span types, in the order that gives them their colours.
    """
    dropped = [(when, reason, f"{number:,}") for when, reason, number in drops if number]
    spans = [(span.text, span.type, f"{span.count:,}") for span in frequent]
    legend, shown = show_block.html_legend(types), [show_block.as_html(block, types) for block in blocks]
    sections = [
        Section("", [Table(("corpus", "value"), facts, ("corpus", "value"))]),
        Section("Lengths", [_figure(title, getattr(census, field)) for title, field in LENGTHS.items()]),
        Section("Left out", [Table(DROPPED, dropped, DROPPED[:2]) if dropped else NOTHING]),
        Section("Frequent spans", [OF_SPANS, Table(("span", "type", "how many"), spans, ("span", "type"))]),
        Section("Blocks", [Markup(text) for text in (legend, *shown)]),
    ]
    return report.html(name, sections)


def _figure(title: str, histogram: np.ndarray) -> Figure:
    return Figure(lambda: _histogram(title, histogram), _caption(title, histogram))


def _histogram(title: str, histogram: np.ndarray) -> str:
    """Draws a bar for each length, as SVG."""
    starts, heights, width = bars(histogram)

    def draw(axes: Axes) -> None:
        axes.bar(starts, heights, width=0.9 * width, align="edge" if width > 1 else "center", color=drawing.COLOURS[0])
        more = " (last bar: and more)" if starts[-1] + width < len(histogram) else ""
        axes.set(xlabel=title + more, ylabel=f"{title.split()[-1]}s")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_locator(MaxNLocator(nbins=8, integer=True))
        axes.yaxis.set_major_formatter("{x:,.0f}")

    return drawing.svg(title, draw)


def bars(
    histogram: Int[np.ndarray, " lengths"],
) -> tuple[Int[np.ndarray, " bars"], Int[np.ndarray, " bars"], int]:
    """Finds (first length of each bar, its height, lengths a bar): at most MAX_BARS bars, the last with the whole tail.

    Args:
        histogram: int64 [longest + 1], not empty and not all zero.
    """
    low = int(np.flatnonzero(histogram)[0])
    high = int(np.searchsorted(np.cumsum(histogram), TAIL * histogram.sum()))
    width = -(-(high - low + 1) // MAX_BARS)
    starts = np.arange(low, high + 1, width)
    return starts, np.add.reduceat(histogram, starts), width


def _caption(title: str, histogram: np.ndarray) -> str:
    number = histogram.sum()
    mean = (np.arange(len(histogram)) * histogram).sum() / number
    median = int(np.searchsorted(np.cumsum(histogram), number / 2))
    return f"{title}: mean {mean:.1f}, median {median:,}, at most {len(histogram) - 1:,}"
