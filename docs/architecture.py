"""Draws docs/img/rooms.svg, the picture of docs/architecture.md: the package's folders and which imports which.

python docs/architecture.py
python docs/architecture.py --check      (for `make lint`: only compares)

A room is a folder of `realm_jax/`, or `run.py`. Its height is read off the imports, so that every arrow points down; an
import that follows from others is left out. All other files beside the folders are the ground, which every room uses.
A number on a room is that of the section of the page whose walk begins there.
"""

import html
import pathlib
import re
import sys

from marked import write_or_check

DOCS = pathlib.Path(__file__).resolve().parent
PACKAGE, PICTURE, PAGE = DOCS.parent / "realm_jax", DOCS / "img" / "rooms.svg", DOCS / "architecture.md"
GROUND = "config, workdir, records, batches, parallel, processes, checkpoints, paths, console, report, …"
# Where a room stands from left to right, in widths of a room; what it is for, in two short lines.
ROOMS = {
    "commands": (2, "realm COMMAND:", "flags and one call"),
    "api": (4.5, "what import realm_jax", "offers"),
    "ablations": (1, "runs that differ", "in one thing"),
    "inspect": (0, "what a run holds,", "who is at work"),
    "convert": (2, "published checkpoints", "in and out"),
    "tagging": (3, "salient spans", "by a trained BERT"),
    "run": (4, "a whole run,", "the builder beside it"),
    "serve": (5, "the page", "in the browser"),
    "eval": (3.5, "what a run is worth:", "measures, reports"),
    "inference": (4.5, "search, fill, answer,", "embed, add texts"),
    "training": (3, "one loop; ICT, REALM,", "fine-tuning as tasks"),
    "plan": (1, "memory, FLOPs and", "hours, beforehand"),
    "openqa": (3, "questions, and spans", "that answer them"),
    "index": (3, "searches, versions,", "builder"),
    "models": (2, "BERT, embedder, and", "the joint forward pass"),
    "scores": (4, "recall, exact match,", "intervals"),
    "losses": (1, "pure functions:", "a sum and a count"),
    "data": (4, "texts to corpora", "to batches"),
    "model_folder": (2.5, "weights and tokenizers", "of others"),
}
PITCH, WIDTH, HEIGHT, STEP, MARGIN = 164, 150, 56, 84, 20
STYLE = (
    ".box{fill:#eef2fb;stroke:#33508f} .ground{fill:#fff7e6;stroke:#a8771d} .mid{text-anchor:middle} "
    ".small{font-size:12px;fill:#333} .head{font-weight:bold;fill:#111} .stop{fill:#a8321d} "
    ".number{font-weight:bold;fill:#fff;font-size:12px} .arrow{fill:none;stroke:#777;marker-end:url(#head)}"
)


def main() -> None:
    write_or_check(PICTURE, picture(imports(), stops(PAGE.read_text())))


def imports() -> dict[str, set[str]]:
    """Room -> the rooms that its files import."""
    rooms = {init.parent.name for init in PACKAGE.glob("*/__init__.py") if not init.parent.is_symlink()} | {"run"}
    if rooms != set(ROOMS):
        sys.exit(f"rooms without a place in docs/architecture.py, or places without a room: {rooms ^ set(ROOMS)}")
    found = {}
    for room in ROOMS:
        files = PACKAGE.joinpath(room).rglob("*.py") if room != "run" else [PACKAGE / "run.py"]
        text = "\n".join(file.read_text() for file in files)
        named = set(re.findall(r"^\s*(?:from|import) realm_jax\.(\w+)", text, re.M))
        for listed in re.findall(r"^\s*from realm_jax import (?:\(([^)]*)\)|(.*))", text, re.M):
            named |= set(re.findall(r"\w+", " ".join(listed)))
        found[room] = (named & rooms) - {room}
    return found


def stops(page: str) -> list[tuple[str, str]]:
    """(number, room) of each numbered section: the room of the first file that it names."""
    return re.findall(r"^## (\d)\. .*?`realm_jax/(\w+)", page, re.M | re.S)


def heights(graph: dict[str, set[str]]) -> dict[str, int]:
    """Row of each room, the lowest 1: above all that it imports, and right below the lowest that imports it."""
    rows: dict[str, int] = {}
    while len(rows) < len(graph):
        free = [room for room, below in graph.items() if room not in rows and below <= set(rows)]
        if not free:
            sys.exit(f"rooms import each other in a circle: {set(graph) - set(rows)}")
        rows |= {room: 1 + max((rows[name] for name in graph[room]), default=0) for room in free}
    for room in sorted(rows, key=rows.__getitem__, reverse=True):
        above = [rows[name] for name, below in graph.items() if room in below]
        rows[room] = min(above, default=max(rows.values()) + 1) - 1
    return rows


def arrows(graph: dict[str, set[str]]) -> list[tuple[str, str]]:
    """Imports that do not follow from others."""

    def reached(room: str) -> set[str]:
        return graph[room].union(*(reached(name) for name in graph[room]))

    return [
        (room, name)
        for room, below in graph.items()
        for name in sorted(below)
        if not any(name in reached(other) for other in below)
    ]


def picture(graph: dict[str, set[str]], stops: list[tuple[str, str]]) -> str:
    """The SVG."""
    rows = heights(graph)
    top = max(rows.values())
    width, height = int(2 * MARGIN + 5 * PITCH + WIDTH), 2 * MARGIN + (top + 1) * STEP - (STEP - HEIGHT)
    at = {room: (MARGIN + ROOMS[room][0] * PITCH, MARGIN + (top - row) * STEP) for room, row in rows.items()}
    title = "The rooms of the package: each folder, what it is for, and which other folders it imports"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-labelledby="t" '
        'font-family="sans-serif" font-size="14">',
        f'<title id="t">{title}</title>',
        f"<style>{STYLE}</style>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 8 4 0 8z" fill="#777"/></marker></defs>',
        f'<rect width="{width}" height="{height}" rx="8" fill="#ffffff"/>',
    ]
    for upper, lower in arrows(graph):
        (x, y), (x2, y2) = at[upper], at[lower]
        start, end = _towards(x, x2), _towards(x2, x)
        parts.append(f'<path class="arrow" d="M{start:g} {y + HEIGHT:g}L{end:g} {y2 - 2:g}"/>')
    for room, (x, y) in at.items():
        parts += _box(x, y, WIDTH, "box", [room + ".py" * (room == "run"), *ROOMS[room][1:]])
        for i, number in enumerate(number for number, begins in stops if begins == room):
            right = x + WIDTH - 4 - 26 * i
            parts.append(f'<circle class="stop" cx="{right:g}" cy="{y + 4:g}" r="11"/>')
            parts.append(f'<text class="number mid" x="{right:g}" y="{y + 8:g}">{number}</text>')
    ground = ["the files beside the folders, which every room uses", GROUND]
    parts += _box(MARGIN, MARGIN + top * STEP, width - 2 * MARGIN, "ground", ground)
    return "\n".join([*parts, "</svg>\n"])


def _towards(x: float, other: float) -> float:
    """Where an arrow to or from a room meets another one's edge."""
    return min(max(other + WIDTH / 2, x + WIDTH / 6), x + 5 * WIDTH / 6)


def _box(x: float, y: float, width: float, kind: str, lines: list[str]) -> list[str]:
    middle = x + width / 2
    parts = [f'<rect class="{kind}" x="{x:g}" y="{y:g}" width="{width:g}" height="{HEIGHT}" rx="6"/>']
    for i, line in enumerate(lines):
        style, text = "small" if i else "head", html.escape(line)
        parts.append(f'<text class="{style} mid" x="{middle:g}" y="{y + 18 + 15 * i + (i > 0):g}">{text}</text>')
    return parts


if __name__ == "__main__":
    main()
