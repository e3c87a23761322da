"""One block for people to read: its sentences, cut at its salient spans, for the terminal and as HTML.

Texts come from anywhere, so HTML is escaped, and control characters, which a terminal would obey, are replaced.
"""

import colorsys
import html
import re
from dataclasses import dataclass

from rich.text import Text

from realm_jax.data.blocks import NUM_SPECIALS
from realm_jax.data.corpus import Corpus

GOLDEN = 0.618034  # a step round the colour circle that keeps any number of hues apart
HUES = ("cyan", "yellow", "green", "magenta", "red", "blue")  # every terminal has these
STYLES = [f"{form} {hue}" for form in ("bold", "bold underline", "bold reverse") for hue in HUES]
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


@dataclass(frozen=True)
class Piece:
    """A run of text that is a span, or none."""

    text: str
    type: str = ""
    """The type of the span; empty between spans."""


@dataclass(frozen=True)
class ShownBlock:
    """A block as it is shown."""

    index: int
    """The block's ordinal over all segments."""
    source_id: str
    title: str
    wordpieces: int
    """How many `[CLS] title [SEP] body [SEP]` has."""
    is_deleted: bool
    sentences: list[list[Piece]]


def span_types(corpus: Corpus) -> list[str]:
    """Lists the types of a corpus's spans, in the order that gives them their colours."""
    return sorted({name for segment in corpus.segments for name in segment.span_types})


def read(corpus: Corpus, index: int) -> ShownBlock:
    """Reads a block."""
    block, spans = corpus.block(index), corpus.spans(index)
    text = block.text.encode()
    names = next(s for s in reversed(corpus.segments) if s.first_block <= index).span_types
    sentences = []
    for ordinal, sentence in enumerate(corpus.sentences(index)):
        at, pieces = int(sentence["byte_start"]), []
        for span in spans[spans["sentence"] == ordinal]:
            start, limit = int(span["byte_start"]), int(span["byte_limit"])
            if start < at:  # inside the span before it
                continue
            pieces += [Piece(_plain(text[at:start])), Piece(_plain(text[start:limit]), names[span["type"]])]
            at = limit
        pieces.append(Piece(_plain(text[at : int(sentence["byte_limit"])])))
        sentences.append([piece for piece in pieces if piece.text])
    wordpieces = len(corpus.title(index)) + len(corpus.body(index)) + NUM_SPECIALS
    is_deleted = index in corpus.tombstones
    return ShownBlock(
        index, _plain(block.source_id.encode()), _plain(block.title.encode()), wordpieces, is_deleted, sentences
    )


def facts(block: ShownBlock) -> str:
    """Describes a block in a line."""
    deleted = ", deleted" if block.is_deleted else ""
    return (
        f"block {block.index} of record {block.source_id}: {block.wordpieces} wordpieces, "
        f"{len(block.sentences)} sentence{'s' * (len(block.sentences) != 1)}{deleted}"
    )


def terminal(block: ShownBlock, types: list[str]) -> Text:
    """Shows a block as styled lines."""
    text = Text.assemble((block.title, "bold"), "\n", (facts(block), "dim"))
    for number, sentence in enumerate(block.sentences, 1):
        text.append(f"\n{number:3} ", "dim")
        for piece in sentence:
            text.append(piece.text, _style(types, piece.type) if piece.type else "")
    return text


def terminal_legend(types: list[str]) -> Text:
    """Shows each type in its colour, for a terminal."""
    legend = Text("spans: ")
    for name in types:
        legend.append(name, _style(types, name)).append(" ")
    return legend


def as_html(block: ShownBlock, types: list[str]) -> str:
    """Shows a block as an `<article>`."""
    items = (f"<li>{''.join(_mark(piece, types) for piece in sentence)}</li>" for sentence in block.sentences)
    head = f"<h3>{html.escape(block.title)}</h3>\n<p>{html.escape(facts(block))}</p>"
    return "\n".join([f"<article>{head}", "<ol>", *items, "</ol></article>"])


def html_legend(types: list[str]) -> str:
    """Shows each type in its colour, as HTML."""
    return f"<p>{' '.join(_mark(Piece(name, name), types) for name in types)}</p>"


def _mark(piece: Piece, types: list[str]) -> str:
    text = html.escape(piece.text)
    if not piece.type:
        return text
    return f'<mark style="background:{_colour(types, piece.type)}44" title="{html.escape(piece.type)}">{text}</mark>'


def _style(types: list[str], name: str) -> str:
    return STYLES[types.index(name) % len(STYLES)]


def _colour(types: list[str], name: str) -> str:
    red, green, blue = colorsys.hls_to_rgb((0.58 + GOLDEN * types.index(name)) % 1, 0.5, 0.7)
    return f"#{round(red * 255):02x}{round(green * 255):02x}{round(blue * 255):02x}"


def _plain(text: bytes) -> str:
    return CONTROL.sub("\N{REPLACEMENT CHARACTER}", text.decode())
