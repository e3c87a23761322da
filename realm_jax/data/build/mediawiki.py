"""MediaWiki XML dumps: their articles, in order, as plain text; pages that are no articles are dropped by rule.

A multistream dump with its index beside it is entered at any of its streams; any other .bz2 or .gz is unpacked into
pieces, and a plain .xml is cut by offsets. Each page is parsed by itself, so that a broken one costs only itself.
"""

import bz2
import functools
import html
import re
from collections import Counter
from collections.abc import Iterator
from xml.etree.ElementTree import ParseError

import mwxml
from etils import epath
from mwxml.errors import MalformedXML

from realm_jax.config import ConfigError
from realm_jax.data.build import bounded, source_parts
from realm_jax.data.build.source_parts import Part, Progress
from realm_jax.data.lost import BYTES_READ, lose
from realm_jax.data.sources.unpacked import DAMAGED, open_plain
from realm_jax.records import Record

PAGE_START, PAGE_END = b"<page>", b"</page>"
LONGEST_PAGE = 2 << 20  # bytes: MediaWiki saves no longer one
FILE_NAMESPACE, CATEGORY_NAMESPACE = 6, 14
LIST_TITLE = re.compile(r"(lists? of|index of|outline of) ", re.IGNORECASE)
TEMPLATE = re.compile(r"\{\{\s*+(\w[\w -]*+)\s*+[|}]")  # its name
DISAMBIGUATION = re.compile(
    r"[\w ]*?disambig[\w ]*|dab|hndis|geodis|mathdab|numberdis|letter-?number[\w -]*|surname|given name"
    r"|set index[\w ]*|sia|shipindex|mountainindex|roadindex|begriffsklärung|homonymie|desambiguación",
    re.IGNORECASE,
)
LONGEST_NAME = 255  # characters of a title
REDIRECT = re.compile(r"\s*#\s*redirect", re.IGNORECASE)
HEADER_BYTES, HEADER_STEP = 1 << 16, 1 << 10


class MediaWiki:
    """The format `mediawiki`."""

    def __init__(self, files: list[epath.Path]):
        self.files = files

    def plan(
        self, folder: epath.Path, part_bytes: int, *, most: int | None = None, progress: Progress | None = None
    ) -> list[Part]:
        """Divides it into parts of about `part_bytes` of XML; raises ConfigError for no dump, or a damaged one."""
        planned: list[Part] = []
        for file in self.files:
            header(file)
            index = index_of(file)
            if index is not None:
                planned += _streams(file, index, part_bytes)
            else:
                room = None if most is None else most - len(planned)
                planned += source_parts.cut(file, folder, part_bytes, delimiter=PAGE_END, most=room, progress=progress)
            if most is not None and len(planned) >= most:
                break
        return planned[:most]

    def records(self, part: Part, counts: Counter) -> Iterator[Record]:
        """Yields the articles of a part by page id; counts the pages that are dropped, by reason."""
        hidden = _prefixes(tuple(self.files))
        articles = []
        for page in pages(part, counts):
            counts["pages"] += 1
            record = article(page, hidden, counts)
            if record is not None:
                articles.append(record)
        yield from sorted(articles, key=lambda record: int(record.id))


@functools.cache  # a worker makes many parts of the same files
def _prefixes(files: tuple[epath.Path, ...]) -> list[str]:
    return sorted({name for file in files for name in hidden_prefixes(header(file))})


def index_of(file: epath.Path) -> epath.Path | None:
    """Finds the index beside a multistream dump; None if there is none."""
    name = re.sub(r"-multistream(\d*)\.xml(.*)\.bz2$", r"-multistream-index\1.txt\2.bz2", file.name)
    if name == file.name:
        return None
    for candidate in (file.parent / name, file.parent / name.removesuffix(".bz2")):
        if candidate.exists():
            return candidate
    return None


def header(file: epath.Path) -> str:
    """Reads what stands before the first page. Raises ConfigError if the file is no MediaWiki dump."""
    start = b""
    try:
        with open_plain(file) as opened:
            while PAGE_START not in start and len(start) < HEADER_BYTES and (block := opened.read(HEADER_STEP)):
                start += block
    except DAMAGED as error:
        raise ConfigError(f"{file}: cannot be read or is truncated ({error}): download it again") from error
    text = start.split(PAGE_START)[0].decode("utf-8", "replace")
    if "<mediawiki" not in text:
        raise ConfigError(
            f"{file}: is no MediaWiki XML dump (no <mediawiki> at its start): pass a *-pages-articles*.xml.bz2, "
            "or name what it is with --format"
        )
    return text


def hidden_prefixes(text: str) -> list[str]:
    """Finds the wiki's own names for the namespaces of files and categories, lower-cased, in a dump's header."""
    found = re.findall(r'<namespace key="(-?\d{1,9})"[^<>]*>([^<]*)</namespace>', text)
    return [html.unescape(name).lower() for key, name in found if int(key) in (FILE_NAMESPACE, CATEGORY_NAMESPACE)]


def pages(part: Part, counts: Counter) -> Iterator[str]:
    """Yields the XML of each page of a part, `<page>` to `</page>`; counts pages longer than MediaWiki saves."""
    for file, start, limit in part.pieces:
        text = _unpack(file, start, limit) if file.endswith(".bz2") else source_parts.read_piece(file, start, limit)
        counts[BYTES_READ] += len(text)
        at = text.find(PAGE_START)
        while at >= 0:
            end = text.find(PAGE_END, at)
            if end < 0:
                lose(counts, "pages cut off", len(text) - at)
                break
            nested = text.rfind(PAGE_START, at + 1, end)  # the page before has no end
            if nested >= 0:
                lose(counts, "pages cut off", nested - at)
                at = nested
            page = text[at : end + len(PAGE_END)]
            if len(page) > LONGEST_PAGE + HEADER_BYTES:
                counts["pages"] += 1
                lose(counts, "longer than MediaWiki allows", len(page))
            else:
                yield page.decode("utf-8", "replace")
            at = text.find(PAGE_START, end)


def article(page: str, hidden: list[str], counts: Counter) -> Record | None:
    """Makes the record of a page; None if it is no article, and counts why."""
    try:
        parsed = next(mwxml.Dump.from_page_xml(page).pages)
        revision = next(iter(parsed))
        title, page_id, text = parsed.title, parsed.id, revision.text
    except (ParseError, MalformedXML, ValueError, AttributeError, TypeError, StopIteration):
        lose(counts, "malformed XML", len(page.encode()))
        return None
    reason = _not_an_article(parsed, title, page_id, revision, text)
    if reason is None:
        plain, reason, counted = bounded.prose(text, hidden)
        counts.update(counted)
        if reason and reason != "without prose":
            lose(counts, reason, len(page.encode()))
            return None
    if reason:
        counts[reason] += 1
        return None
    return Record(str(page_id), title, plain, f"page {page_id}")


def _not_an_article(parsed, title, page_id, revision, text) -> str | None:
    if not title or page_id is None:
        return "without title or id"
    if parsed.namespace != 0:
        return "outside the article namespace"
    if parsed.redirect is not None or (text and REDIRECT.match(text)):
        return "redirect"
    if not text or not text.strip():
        return "without text"
    if revision.model not in (None, "wikitext"):
        return "no wikitext"
    if title.endswith("(disambiguation)") or _says_disambiguation(text):
        return "disambiguation"
    return "list" if LIST_TITLE.match(title) else None


def _says_disambiguation(text: str) -> bool:
    names = (name.strip() for name in TEMPLATE.findall(text) if len(name) <= LONGEST_NAME)
    return any(map(DISAMBIGUATION.fullmatch, names))


def _streams(file: epath.Path, index: epath.Path, part_bytes: int) -> list[Part]:
    """Finds byte ranges of whole streams that hold about `part_bytes` of XML."""
    size = file.stat().length
    offsets = [0]
    with open_plain(index) as lines:
        for line in lines:
            offset = line.split(b":", 1)[0]
            if not offset.isdigit():
                raise ConfigError(f"{index}: is no multistream index (line {line[:40]!r}): download it again")
            if int(offset) != offsets[-1]:
                offsets.append(int(offset))
    if offsets[-1] >= size:
        raise ConfigError(f"{file}: has {size:,} bytes, its index goes to {offsets[-1]:,}: download it again")
    ratio = 4  # size of XML by size of bz2
    cuts = [offsets[1] if len(offsets) > 1 else 0]  # before it: the header
    for offset in offsets[1:]:
        if offset - cuts[-1] >= part_bytes // ratio:
            cuts.append(offset)
    cuts.append(size)
    return [Part([(str(file), a, b)], b - a) for a, b in zip(cuts, cuts[1:], strict=False) if b > a]


def _unpack(file: str, start: int, limit: int) -> bytes:
    with epath.Path(file).open("rb") as opened:
        opened.seek(start)
        packed = opened.read(limit - start)
    plain = []
    while packed:
        stream = bz2.BZ2Decompressor()
        try:
            plain.append(stream.decompress(packed))
        except OSError as error:
            raise ConfigError(f"{file}: is damaged between bytes {start:,} and {limit:,}: download it again") from error
        if not stream.eof:
            raise ConfigError(f"{file}: is truncated between bytes {start:,} and {limit:,}: download it again")
        packed = stream.unused_data
    return b"".join(plain)
