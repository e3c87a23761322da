"""The prose of a page of wikitext, without templates, tables, references, files and all other markup.

The text of every section stays, in order, but for sections that hold no prose (`DROPPED_SECTIONS`); headings
themselves go, as do list items that are no sentences. A line break ends a paragraph, a list item or a section.
"""

import html
import re
from collections import Counter
from collections.abc import Iterable

import mwparserfromhell
from mwparserfromhell.nodes import ExternalLink, Heading, HTMLEntity, Tag, Template, Text, Wikilink
from mwparserfromhell.wikicode import Wikicode

DROPPED_SECTIONS = frozenset(
    """references|notes|footnotes|citations|sources|works cited|notes and references|references and notes
    |bibliography|further reading|external links|see also|gallery|discography|filmography|publications
    |selected bibliography|selected works""".replace("\n", "")
    .replace("    ", "")
    .split("|")
)
DROPPED_TAGS = frozenset(
    """ref references table math chem ce gallery timeline score graph mapframe maplink imagemap inputbox hiero
    syntaxhighlight source pre code templatedata templatestyles indicator categorytree section""".split()
)
INLINE_TEMPLATES = {  # templates that stand for words of a sentence -> which of their values these words are
    "lang": -1, "transl": -1, "transliteration": -1, "nowrap": 0, "nobr": 0, "small": 0, "abbr": 0, "as of": 0,
    "convert": slice(0, 2), "cvt": slice(0, 2), "nihongo": 0, "circa": 0, "c.": 0, "script": -1, "vr": 0, "ill": 0,
    "interlanguage link": 0, "sic": 0, "sup": 0, "sub": 0, "linktext": 0, "ship": slice(0, 2),
}  # fmt: skip
BEFORE = {"circa": "c. ", "c.": "c. ", "as of": "As of "}
DASHES = {"ndash": "–", "en dash": "–", "mdash": "—", "em dash": "—"}
DASHES |= dict.fromkeys(("snd", "spnd", "spaced ndash"), " – ")
RANGES = frozenset(("-", "–", "and", "to", "or", "by", "x", "×"))  # `{{convert|5|to|7|km}}`
PAIRS = (("{{", "}}"), ("[", "]"), ("{|", "|}"), ("<!--", "-->"))
INTERWIKI = re.compile(r"[a-z]{2,3}(-[a-z-]+)?:")

MOST_UNCLOSED = 50_000_000
"""Openings that nothing closes, times the characters of the page: the parser's time, up to 12 s for so many."""
MOST_PASSES = 8  # in which broken markup is cleaned away

# References hold most templates of an article, and the parser takes time over each: they go first.
_COMMENTS = re.compile(r"<!--.*?-->", re.DOTALL)
_REFERENCES = re.compile(
    r"<ref\b[^<>]*/\s*+>|<ref\b[^<>]*+>(?:(?!<ref\b|</ref\s*+>).)*+</ref\s*+>", re.DOTALL | re.IGNORECASE
)
_UNCLOSED = re.compile(r"(\{\{|\{\|).*|^[ \t]*[|!].*", re.MULTILINE)  # what is left of broken templates and tables
_BRACKETS = re.compile(r"\[\[(?:[^\[\]|]*\|)?|\]\]|\}\}|\|\}|\[(?=https?:)(?:\S+ ?)?|https?://\S+")
_TAGS = re.compile(
    r"<!--.*?(?:-->|\Z)|<ref\b[^<>]*>.*?(?:</ref\s*>|$)|</?[A-Za-z][^<>\n]*>|<ref\b[^\n]*", re.DOTALL | re.MULTILINE
)
_OPEN_TAG = re.compile(
    r"<(?!(?:br|hr|li|p|d[dt]|t[dhr]|wbr)\b[^<>]*>)[a-z]", re.IGNORECASE
)  # of elements that need an end
_ANY_MARKUP = re.compile(r"[<>\[\]{}|]|'{2,}|__|https?://|&(?=[a-z]+;)")
_NOISE = re.compile(r"'{2,}|__[A-Z]+__|[\r\x00-\x08\ufffd]|-->")
_SPACES = re.compile(r"[ \t\xa0\u2009\u202f]+")
_EMPTY = re.compile(  # left where a template stood
    r"\([\s,;:]*+\)|\[\s*+\]|(?<=\()[\s,;:]++|(?<![\s,;:])[\s,;:]++(?=\))"
)
_BEFORE_STOP = re.compile(r" +(?=[,.;:!?](?:\s|$))")
_SENTENCE_END = re.compile(r"[.!?。！？।؟][\"'”’»)\]]*$")


class NeverClosedError(ValueError):
    """So much of a page's markup is opened and never closed that it is vandalism, and parsing it takes hours."""


def plain_text(wikitext: str, hidden: Iterable[str] = (), counts: Counter | None = None) -> str:
    """Extracts the prose of a page, one paragraph a line. `prose` returns the reason instead of raising errors.

    Args:
        hidden: lower-cased prefixes of links that show nothing or no prose: files and categories, in the wiki's words.
        counts: gains `sections without prose`, `list items that are no sentence` and `lines cut at broken templates or
            tables`.

    Raises:
        RecursionError, mwparserfromhell.parser.ParserError: markup that is nested too deeply, or beyond the parser.
        NeverClosedError: markup that would take the parser hours.
    """
    counts = Counter() if counts is None else counts
    prefixes = ("file:", "image:", "category:", *(f"{prefix}:" for prefix in hidden))
    pieces: list[str] = []
    kept, level = True, 0
    wikitext = _REFERENCES.sub("", _without_comments(wikitext))
    if _unclosed(wikitext) * len(wikitext) > MOST_UNCLOSED:
        raise NeverClosedError
    for node in mwparserfromhell.parse(wikitext, skip_style_tags=True).nodes:
        if isinstance(node, Heading):
            if node.level <= level or kept:
                name = _render(node.title, prefixes).strip(" '").lower()
                kept, level = name not in DROPPED_SECTIONS, node.level
                counts["sections without prose"] += not kept
            pieces.append("\n")
        elif kept:
            pieces.append(_node(node, prefixes))
    return _clean("".join(pieces), counts)


def prose(wikitext: str, hidden: Iterable[str] = ()) -> tuple[str, str, dict[str, int]]:
    """Returns (`plain_text`, or empty; why there is none, or empty; what was counted)."""
    counts: Counter = Counter()
    try:
        plain = plain_text(wikitext, hidden, counts)
    except NeverClosedError:
        return "", "markup that is never closed", {}
    except (RecursionError, mwparserfromhell.parser.ParserError):
        return "", "markup beyond the parser", {}
    return plain, "" if plain else "without prose", dict(counts)


def _without_comments(text: str) -> str:
    """Drops comments. None ends behind the last `-->`: looking for its end there would take quadratic time."""
    end = text.rfind("-->") + len("-->")
    return _COMMENTS.sub("", text[:end]) + text[end:] if end >= len("-->") else text


def _unclosed(text: str) -> int:
    """Estimates how many templates, tables, links and elements are opened and never closed."""
    elements = len(_OPEN_TAG.findall(text)) - text.count("</") - text.count("/>")
    return max(0, elements) + sum(max(0, text.count(start) - text.count(end)) for start, end in PAIRS)


def _render(code: Wikicode | None, prefixes: tuple[str, ...]) -> str:
    return "".join(_node(node, prefixes) for node in code.nodes) if code is not None else ""


def _node(node, prefixes: tuple[str, ...]) -> str:
    """What a reader sees of one node."""
    if isinstance(node, Text):
        return node.value
    if isinstance(node, Wikilink):
        title = str(node.title).strip()
        if title.lower().startswith(prefixes) or INTERWIKI.match(title):
            return ""
        return _render(node.text, prefixes) if node.text is not None else title.lstrip(":").split("#")[0] or title
    if isinstance(node, Tag):
        return _tag(node, prefixes)
    if isinstance(node, ExternalLink):
        return _render(node.title, prefixes) if node.brackets else ""
    if isinstance(node, HTMLEntity):
        return _entity(node)
    if isinstance(node, Template):
        return _template(node, prefixes)
    return "\n" if isinstance(node, Heading) else ""  # comments and arguments show nothing


def _tag(node: Tag, prefixes: tuple[str, ...]) -> str:
    if node.wiki_markup in ("*", "#", ":", ";"):
        return node.wiki_markup
    name = str(node.tag).strip().lower()
    if name in DROPPED_TAGS:
        return ""
    if name in ("br", "hr"):
        return "\n"
    inside = _render(node.contents, prefixes)
    return f"\n{inside}\n" if name in ("div", "p", "blockquote", "center", "poem") else inside


def _entity(node: HTMLEntity) -> str:
    try:
        return node.normalize()
    except (ValueError, OverflowError):  # no such character
        return ""


def _template(node: Template, prefixes: tuple[str, ...]) -> str:
    name = str(node.name).strip().lower()
    if name in DASHES:
        return DASHES[name]
    if name.startswith("formatnum:"):
        return name.removeprefix("formatnum:").strip()
    which = -1 if name.startswith("lang-") else INLINE_TEMPLATES.get(name)
    if which is None:
        return ""
    values = [_render(parameter.value, prefixes).strip() for parameter in node.params if not parameter.showkey]
    if isinstance(which, slice):
        is_range = any(value in RANGES for value in values[1:4:2])
        chosen = values[:4] if is_range else values[which]
    else:
        chosen = values[which:][:1] if which >= 0 else values[which:]
    return BEFORE.get(name, "") + " ".join(chosen) if chosen else ""


def _clean(text: str, counts: Counter) -> str:
    text, before, broken = html.unescape(text), None, 0  # some pages escape a character twice
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # and some, each half of a surrogate pair
    for _ in range(MOST_PASSES):  # what is left of broken markup can join to markup
        before, (text, cut) = text, _UNCLOSED.subn("", _TAGS.sub("", text))
        text = _NOISE.sub("", _BRACKETS.sub("", text))
        broken += cut
        if text == before:
            break
    else:
        text = _ANY_MARKUP.sub("", text)
    if broken:
        counts["lines cut at broken templates or tables"] += broken
    lines = []
    for line in text.split("\n"):
        item = line.lstrip()
        line = item.lstrip("*#:;").strip() if item[:1] in "*#:;" else line
        line = _SPACES.sub(" ", _EMPTY.sub("", line))
        line = _BEFORE_STOP.sub("", line.replace("( ", "(").replace(" )", ")")).strip()
        if item[:1] and item[0] in "*#:;" and not _SENTENCE_END.search(line):
            counts["list items that are no sentence"] += bool(line)
        elif any(character.isalnum() for character in line):
            lines.append(line)
    return "\n".join(lines)
