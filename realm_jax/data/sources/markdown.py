"""Markdown as plain text: CommonMark with tables and strikethrough, and what a reader of the page would see of it.

Each paragraph, heading, list item and row of a table is one line; a hard break starts another. Dropped are fenced code,
images, comments, scripts, tags, definitions of links and front matter. Kept are inline code, indented text (prose more
often than code), the text of links, of footnotes and of HTML, and whatever is opened and never closed. Time is linear:
paragraphs are parsed a piece at a time and nesting is bounded, beyond that the text stays as it is written.
"""

import html
import re

from markdown_it import MarkdownIt
from markdown_it.common.html_blocks import block_names
from markdown_it.rules_block import StateBlock
from markdown_it.token import Token

DEEPEST = 16
"""Levels of quotes and lists within each other that are told apart: a quote has one, a list two."""
PIECE_LEN = (
    4_000  # characters of a paragraph that are parsed at once: the parser takes quadratic time for a few markups
)
CELLS = " | "

_FRONT_MATTER = re.compile(  # each line of YAML is a field, a comment, of a list, indented or blank: else it is talk
    r"""\A(?: ---[ \t]*\n (?=[\w"'.-]+[ \t]*[:=]|\#)
            (?:(?: [\w"'][^:=\n]*[:=] | [ \t\#\[\]{}-] | $ ).*\n)+? (?:---|\.\.\.)
    | \+\+\+[ \t]*\n (?=[\w"'.-]+[ \t]*=|\#|\[) (?:.*\n)+? \+\+\+ )[ \t]*(?:\n|\Z)""",
    re.MULTILINE | re.VERBOSE,
)
_FOOTNOTE = re.compile(r"^ {0,3}\[\^[^\[\]\s]+\]:", re.MULTILINE)
_SPEAKER = re.compile(
    r"^( {0,3})(?=\[[^\[\]\n]+\]:[ \t]+[\w'’-]+[.,!?]?[ \t]*$)", re.MULTILINE
)  # `[Ada]: Yes.`: no link
_FOOTNOTE_MARK = re.compile(r"\[\^[^\[\]\s]{1,99}\]")
_UNSEEN = re.compile(r"<(script|style)\b[^<>]*>.*?(?:</\1\s*>|\Z)|<[?!][A-Za-z\[][^<>]*>", re.DOTALL | re.IGNORECASE)
_TAG = re.compile(r"</?([A-Za-z][\w-]*)[^<>]*>")
_SPACES = re.compile(r"[ \t]{2,}")
_PHRASING = frozenset(
    """a abbr audio b bdi bdo big button canvas cite code data del dfn em embed font i img input ins kbd label map mark
    meter object output picture progress q ruby rp rt s samp select small span strike strong sub sup svg time tt u var
    video wbr""".split()
)
_TAGS = _PHRASING.union(block_names, ("br", "pre", "script", "style", "template", "textarea"))


def parse(text: str) -> tuple[str | None, str]:
    """Parses a page: (its first heading outside of quotes and lists, or None; the rest, a line for each part)."""
    environment: dict = {}
    text = _FOOTNOTE.sub("\n", _FRONT_MATTER.sub("", text, count=1))
    tokens = _PARSER.parse(_SPEAKER.sub(r"\1\\", text), environment)
    title: str | None = None
    lines: list[str] = []
    cells: list[str] = []
    numbers: list[str] = []  # of list items that have no text yet
    counted = _counting_lists(tokens)
    for before, token in zip([None, *tokens], tokens, strict=False):
        if token.type == "inline":
            shown = _shown(token.content, environment)
            if before.type in ("th_open", "td_open"):
                cells += [shown] * bool(shown)
            elif title is None and before.type == "heading_open" and not before.level and "\n" not in token.content:
                title = shown or None
            else:
                lines.append(" ".join([*numbers, shown]))
                numbers = []
        elif token.type == "tr_close":
            lines.append(CELLS.join(cells))
            cells = []
        elif token.type == "list_item_open" and token.info and id(token) not in counted:
            numbers.append(token.info + token.markup)
        elif token.type == "list_item_close" and numbers:
            lines.append(" ".join(numbers))
            numbers = []
        elif token.type == "html_block":
            lines.append(_html(token.content))
        elif token.type == "fence" and not _is_closed(token):
            lines.append(token.content)
    stripped = (_SPACES.sub(" ", line).strip() for part in lines for line in part.split("\n"))
    return title, "\n".join(line for line in stripped if line)


def _counting_lists(tokens: list[Token]) -> set[int]:
    """Finds the ids of the items whose numbers only count them: in lists of two or more that begin with 0 or 1.

    Any other number at the start of a line belongs to the text: `1945. She came from …`.
    """
    found: set[int] = set()
    open_lists: list[list[Token]] = []
    for token in tokens:
        if token.type == "ordered_list_open":
            open_lists.append([])
        elif token.type == "list_item_open" and token.info:
            open_lists[-1].append(token)
        elif token.type == "ordered_list_close":
            items = open_lists.pop()
            found |= {id(item) for item in items} if len(items) > 1 and int(items[0].info) < 2 else set()
    return found


def _shown(content: str, environment: dict) -> str:
    """Shows the plain text of a paragraph, a heading or a cell."""
    shown, start = [], 0
    while start < len(content):
        limit = min(start + PIECE_LEN, len(content))
        if limit < len(content):
            space = max(content.rfind(" ", start, limit), content.rfind("\n", start, limit))
            limit = space + 1 if space > start else limit
        tokens: list[Token] = []
        _PARSER.inline.parse(content[start:limit], _PARSER, environment, tokens)
        shown += map(_shown_token, tokens)
        if content[limit - 1] in " \n":  # the parser drops a space at the end
            shown.append(" ")
        start = limit
    return "".join(shown).strip()


def _shown_token(token: Token) -> str:
    if token.type == "text":
        return _FOOTNOTE_MARK.sub("", token.content)
    if token.type in ("text_special", "code_inline"):
        return token.content
    if token.type == "html_inline":
        tag = _TAG.fullmatch(token.content)
        return ("\n" if tag[1].lower() == "br" else _without(tag, "")) if tag else ""
    return {"softbreak": " ", "hardbreak": "\n"}.get(token.type, "")


def _html(content: str) -> str:
    """Shows the text of a block of HTML: a line break is a space, and tags of blocks break lines."""
    paragraphs = _UNSEEN.sub("", _without_comments(content)).split("\n\n")
    content = "\n".join(paragraph.replace("\n", " ") for paragraph in paragraphs)
    content = _TAG.sub(lambda tag: _without(tag, "" if tag[1].lower() in _PHRASING else "\n"), content)
    return html.unescape(content)


def _without(tag: re.Match, instead: str) -> str:
    """Replaces a tag by `instead`, unless HTML has no such element, as in `<Ada Stone>`."""
    return instead if tag[1].lower() in _TAGS else tag[0]


def _without_comments(content: str) -> str:
    """Drops what stands between `<!--` and `-->`; a comment that is never closed stays."""
    *closed, rest = content.split("-->")
    return "".join(piece.partition("<!--")[0] for piece in closed) + rest.replace("<!--", "")


def _is_closed(fence: Token) -> bool:
    """Whether a block of code ends with its fence, not with all that follows."""
    first, limit = fence.map
    num_lines = fence.content.count("\n") + (fence.content[-1:] not in ("", "\n"))
    return num_lines < limit - first - 1


def _too_deep(state: StateBlock, start: int, limit: int, silent: bool) -> bool:
    """Makes one paragraph of what is nested too deeply, as a rule of the parser, which would drop it otherwise."""
    if silent or state.level < DEEPEST:
        return False
    state.line = limit
    state.push("paragraph_open", "p", 1)
    token = state.push("inline", "", 0)
    token.content = state.getLines(start, limit, state.blkIndent, False).strip()
    token.children = []
    state.push("paragraph_close", "p", -1)
    return True


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"maxNesting": 2 * DEEPEST})
    parser.enable(["table", "strikethrough"]).disable(["inline", "code"])  # `_shown` parses inlines
    parser.block.ruler.before("table", "too_deep", _too_deep)
    return parser


_PARSER = _parser()
