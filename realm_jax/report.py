"""The one writer of reports: sections of paragraphs, tables and drawings become a Markdown page or one HTML file.

Texts are plain: a page shows them as they are, even if they look like Markdown or HTML. The HTML file loads nothing: it
contains its drawings, and has no other images.
"""

import html as html_lib
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from markdown_it import MarkdownIt

from realm_jax import html_page

PLOTS = "plots"


@dataclass(frozen=True)
class Table:
    """Rows of plain texts under a header."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: Sequence[str] = ()
    """Columns of words, which are aligned to the left; numbers are aligned to the right."""


@dataclass(frozen=True, repr=False)
class Plot:
    """A drawing with its title and an explanation. On a Markdown page it is a file in the folder `plots` beside it."""

    name: str
    """Name of its file, without ending."""
    title: str
    text: str
    svg: str

    def __repr__(self) -> str:
        return f"{self.name}: {self.title}"

    def html(self) -> str:
        """The drawing below its title and text."""
        title, text = html_lib.escape(self.title), html_lib.escape(self.text)
        return f"<h4>{title}</h4><p>{text}</p><div style='max-width:36rem'>{self.svg}</div>"


@dataclass(frozen=True)
class Figure:
    """A drawing that only the HTML file has."""

    draw: Callable[[], str]
    """Makes the SVG."""
    caption: str = ""


@dataclass(frozen=True)
class Marked:
    """A text that is Markdown already."""

    text: str


@dataclass(frozen=True)
class Markup:
    """HTML, for what only the HTML file shows."""

    html: str


Part = str | tuple[str, ...] | Table | Plot | Figure | Marked | Markup
"""A paragraph, a list of lines, or one of the classes above."""


@dataclass(frozen=True)
class Section:
    """Parts under a title; without a title they belong to the section before."""

    title: str
    parts: Sequence[Part]
    level: int = 2
    """Level of the heading; the page's title has level 1."""


def markdown(title: str, sections: Iterable[Section]) -> str:
    """The page as Markdown."""
    blocks = [f"# {plain(title)}"]
    for section in sections:
        blocks += [f"{'#' * section.level} {plain(section.title)}"] if section.title else []
        blocks += [text] if (text := parts_as_markdown(section.parts)) else []
    return "\n\n".join(blocks) + "\n"


def parts_as_markdown(parts: Iterable[Part]) -> str:
    """Parts of a page as Markdown."""
    return "\n\n".join(text for part in parts if (text := _as_markdown(part)))


def html(title: str, sections: Iterable[Section]) -> str:
    """The page as one HTML file, dark or light as its reader."""
    parts = [f"<h1>{html_lib.escape(title)}</h1>"]
    for section in sections:
        level = section.level
        parts += [f"<h{level}>{html_lib.escape(section.title)}</h{level}>"] if section.title else []
        parts.append(parts_as_html(section.parts))
    return html_page.frame(title, parts)


def parts_as_html(parts: Iterable[Part]) -> str:
    """Parts of a page as HTML."""
    return "\n".join(text for part in parts if (text := _as_html(part)))


def table(header: Sequence[str], rows: Iterable[Sequence[str]], words: Sequence[str] = ()) -> str:
    """A table of plain texts as Markdown; columns named in `words` are aligned to the left, numbers to the right."""
    sides = ("---" if name in words else "---:" for name in header)
    lines = (f"| {' | '.join(map(plain, row))} |" for row in rows)
    return "\n".join([f"| {' | '.join(map(plain, header))} |", f"|{'|'.join(sides)}|", *lines])


def plain(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    return re.sub(r"([\\`*_\[\]<>|~#&$])", r"\\\1", re.sub(r"\s+", " ", text))


def standalone(svg: str) -> str:
    """A plot as a file of its own, in a grey that shows on black and on white."""
    return svg.replace("<svg ", '<svg color="#808080" ', 1) + "\n"


def _as_markdown(part: Part) -> str:
    match part:
        case str():
            return plain(part)
        case tuple():
            return "\n".join(f"- {plain(line)}" for line in part)
        case Table():
            return table(part.header, part.rows, part.words)
        case Plot():
            return f"### {plain(part.title)}\n\n{plain(part.text)}\n\n![{plain(part.title)}]({PLOTS}/{part.name}.svg)"
        case Marked():
            return part.text.rstrip("\n")
    return ""


def _as_html(part: Part) -> str:
    escape = html_lib.escape
    match part:
        case str():
            return f"<p>{escape(part)}</p>"
        case tuple():
            return "\n".join(["<ul>", *(f"<li>{escape(line)}</li>" for line in part), "</ul>"])
        case Table():
            return html_page.table(part.header, part.rows, part.words)
        case Plot():
            return f"<h3>{escape(part.title)}</h3>\n<p>{escape(part.text)}</p>\n<figure>{part.svg}</figure>"
        case Figure():
            caption = f"<figcaption>{escape(part.caption)}</figcaption>" if part.caption else ""
            return f"<figure>{part.draw()}{caption}</figure>"
        case Marked():
            return _parser().render(part.text)
        case Markup():
            return part.html


def _parser() -> MarkdownIt:
    """Markdown without HTML, with tables that scroll, and with the words for an image instead of the image."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")

    def image(self: Any, tokens: Sequence[Any], index: int, options: Any, env: Any) -> str:
        del self, options, env
        return html_lib.escape(tokens[index].content)

    parser.add_render_rule("image", image)
    parser.add_render_rule("table_open", lambda *_: "<div class=scroll><table>\n")
    parser.add_render_rule("table_close", lambda *_: "</table></div>\n")
    return parser
