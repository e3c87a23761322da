"""Drawings as inline SVG for a page: text stays text, and ink has the colour of the page's text."""

import html
import io
import re
from collections.abc import Callable

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK = "#010203"  # stands for the page's text colour, which matplotlib cannot name
COLOURS = ("#2b83ba", "#d7301f", "#1a9850", "#b8860b", "#8856a7")  # readable on black and on white
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


def svg(name: str, draw: Callable[[Axes], None]) -> str:
    """Makes an `<svg>` element without a size of its own; the same drawing always gives the same text."""
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        figure = Figure(figsize=(5.6, 3.4), layout="constrained")
        draw(figure.add_subplot())
        out = io.StringIO()
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor")
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' id="[A-Za-z0-9.]+_[0-9_]+"', "", text)  # the same in every figure, and nothing refers to them
    return re.sub(
        r'^<svg (.*?) width="\S+" height="\S+"', rf'<svg \1 role="img" aria-label="{html.escape(name)}"', text, count=1
    ).strip()
