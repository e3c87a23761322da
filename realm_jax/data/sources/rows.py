"""How records lie in a file, known by its first bytes: JSON lines, a table, `<doc>` elements, one JSON text, parquet.

Each reader gives (line number, the record's fields or None, the reason why there are none). `formats` and
`question_formats` know what the fields mean.
"""

import contextlib
import functools
import itertools
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from etils import epath

from realm_jax.config import ConfigError
from realm_jax.data.sources import tables
from realm_jax.data.sources.fields import Row
from realm_jax.data.sources.squad_json import squad_rows
from realm_jax.data.sources.tables import BOM, Container, Found, plain_text, short
from realm_jax.data.sources.unpacked import DAMAGED, open_plain

FIRST_LINE = 1 << 26  # bytes: a longer first line is no line
LOOKED_AT = 100  # JSON lines that may be bad before the first good one
BATCH_ROWS = 1000
DOCUMENT_END = "</doc>"
NOT_TEXT = {  # first bytes -> what to do about such a file
    b"PK\x03\x04": "is a zip archive: unpack it",
    b"\x28\xb5\x2f\xfd": "is zstandard: unpack it",
    b"7z\xbc\xaf": "is a 7z archive: unpack it",
    b"%PDF": "is a PDF: make text of it",
    b"ARROW1": "is an Arrow file: write parquet",
    b"\xff\xfe": "is UTF-16: convert it to UTF-8",
    b"\xfe\xff": "is UTF-16: convert it to UTF-8",
    b"version https://git-lfs": "is a pointer of git-lfs, not the file: run git lfs pull",
    b"<mediawiki": "is a MediaWiki dump: build a corpus of it with realm corpus --format=mediawiki",
    b"<?xml": "is XML: a MediaWiki dump goes through realm corpus --format=mediawiki",
    b"<!doctype": "is a web page: download the file itself",
    b"<html": "is a web page: download the file itself",
}


@dataclass(frozen=True)
class Look:
    """What the beginning of a file shows."""

    container: Container
    rows: list[Row]
    """The first records; of a table and of parquet, one with the names of the columns alone."""


AsTable = Callable[[epath.PathLike, bytes], Container]
"""(file, its first line) -> how its table lies there; raises ConfigError if it is none"""
_with_header = functools.partial(tables.header, numbered=False)


def look(file: epath.PathLike, as_table: AsTable = _with_header, *, whole: bool = False) -> Look:
    """Looks at the beginning of a file (at all of one JSON text).

    Args:
        as_table: what a file is taken for that is of no other kind; by default a table with a header.
        whole: see `json_rows`.

    Raises:
        ConfigError: it cannot be read, or holds no records in any way that we know.
    """
    try:
        with open_plain(file) as opened:
            if opened.read(4) == b"PAR1":
                with open_parquet(file) as table:
                    names = tables.distinct(file, table.schema_arrow.names)
                    return Look(Container("parquet"), [dict.fromkeys(names)])
        with open_plain(file) as opened:
            lines = (line.removeprefix(BOM.encode()) for line in iter(lambda: opened.readline(FIRST_LINE), b""))
            first = next((line for line in lines if line.strip()), b"").lstrip()
            is_json = first[:1] in (b"{", b"[") or is_jsonl(file)
            more = list(itertools.islice(lines, LOOKED_AT)) if is_json else []
    except DAMAGED as error:
        raise ConfigError(f"{file}: cannot be read ({error}): make it again or pass another file") from error
    if not first:
        raise ConfigError(f"{file}: is empty: pass another file")
    _refuse(file, first)
    if first.startswith(b"<doc "):
        return Look(Container("documents"), [dict.fromkeys(("id", "revid", "url", "title", "text"))])
    if is_json:
        return _look_at_json(file, [first, *more], whole)
    container = as_table(file, first)
    return Look(container, [dict.fromkeys(container.columns)])


def is_jsonl(file: epath.PathLike) -> bool:
    """Whether the name of a file says that each line is a JSON text."""
    return ".jsonl" in epath.Path(file).name or ".ndjson" in epath.Path(file).name


def plain_lines(file: epath.PathLike) -> Iterator[bytes]:
    """Yields the lines of a file, unpacked, with their ends. Raises ConfigError if it is damaged."""
    try:
        with open_plain(file) as opened:
            yield from opened
    except DAMAGED as error:
        raise ConfigError(f"{file}: cannot be read ({error}): make it again or pass another file") from error


def read_file(
    file: epath.PathLike, container: Container, wanted: tuple[str, ...] | None = None, *, whole: bool = False
) -> Iterator[Found]:
    """Reads all records of a file.

    Args:
        wanted: the columns of a parquet file that are needed; by default all.
        whole: see `json_rows`.
    """
    if container.kind == "parquet":
        for number, row in enumerate(parquet_rows(file, None, wanted), 1):
            yield number, row, ""
    elif container.kind == "json":
        for number, row in enumerate(json_rows(file, whole=whole), 1):
            yield number, *((row, "") if isinstance(row, dict) else (None, "not a JSON object"))
    else:
        yield from read_lines(plain_lines(file), container, str(file))


def read_lines(lines: Iterable[bytes], container: Container, where: str) -> Iterator[Found]:
    """Reads the records of whole lines; `where` names their file. Raises ConfigError at a quote that never ends."""
    if container.kind == "table":
        return tables.table(lines, container, where)
    return _documents(lines) if container.kind == "documents" else _json_lines(lines)


def json_rows(file: epath.PathLike, *, whole: bool = False) -> list:
    """Reads the records of a file that is one JSON text.

    Args:
        whole: an object is one record, SQuAD's too; by default its paragraphs are the records.

    Raises:
        ConfigError: it is none, or holds no list of records.
    """
    try:
        with open_plain(file) as opened:
            values = json.loads(opened.read().decode("utf-8-sig"))
    except (*DAMAGED, ValueError, RecursionError) as error:
        raise ConfigError(f"{file}: is neither JSON lines nor one JSON text ({short(error)}): mend it") from error
    if isinstance(values, dict):
        return squad_rows(values, str(file)) if not whole and isinstance(values.get("data"), list) else [values]
    if not isinstance(values, list):
        raise ConfigError(f"{file}: is JSON without records: pass a file with a list of them")
    return values


def parquet_rows(file: epath.PathLike, groups: Iterable[int] | None, wanted: tuple[str, ...] | None) -> Iterator[Row]:
    """Reads a parquet file, or some of its row groups: the columns that are wanted and there, or all."""
    with open_parquet(file) as table:
        columns = [name for name in table.schema_arrow.names if wanted is None or name in wanted]
        groups = range(table.num_row_groups) if groups is None else groups
        for batch in table.iter_batches(BATCH_ROWS, row_groups=groups, columns=columns):
            yield from batch.to_pylist()


@contextlib.contextmanager
def open_parquet(file: epath.PathLike) -> Iterator[Any]:
    """Opens a pyarrow `ParquetFile` for a `with` block. Raises ConfigError if it is damaged, or without pyarrow."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigError(f"{file}: parquet needs another package: pip install 'realm_jax[data]'") from error
    try:
        with open_plain(file) as opened:
            yield pyarrow.parquet.ParquetFile(opened)
    except (pyarrow.ArrowException, *DAMAGED) as error:  # raised in the `with` block, too: the damage may lie anywhere
        raise ConfigError(f"{file}: is no parquet file, or damaged ({short(error)}): download it again") from error


def _refuse(file: epath.PathLike, first: bytes) -> None:
    for head, what in NOT_TEXT.items():
        if first[: len(head)].lower() == head.lower():
            raise ConfigError(f"{file}: {what}")
    if first[257:262] == b"ustar":
        raise ConfigError(f"{file}: is a tar archive: unpack it")
    if b"\x00" in first:
        raise ConfigError(f"{file}: is no text: pass JSON lines, a table, <doc> elements or parquet")


def _look_at_json(file: epath.PathLike, lines: list[bytes], whole: bool) -> Look:
    rows = [row for _, row, _ in _json_lines(lines) if row is not None]
    is_squad = rows and isinstance(rows[0].get("data"), list) and "id" not in rows[0]  # in one line
    if rows and not is_squad and (is_jsonl(file) or not _may_go_on(lines)):
        return Look(Container("lines"), rows)
    try:
        values = [row for row in json_rows(file, whole=whole)[:LOOKED_AT] if isinstance(row, dict)]
    except ConfigError:
        if rows and not is_squad:
            return Look(Container("lines"), rows)
        if is_jsonl(file):
            raise ConfigError(f"{file}: none of its first lines is a JSON object in UTF-8: write one a line") from None
        raise
    if not values:
        raise ConfigError(f"{file}: holds no JSON object: write one for each record")
    return Look(Container("json"), values)


def _may_go_on(lines: list[bytes]) -> bool:
    """Whether the first line may begin a JSON text of many lines, some of which look like records."""
    first, *others = (line for line in lines if line.strip())
    is_row = next(_json_lines([first]))[1] is not None
    return first.startswith(b"[") or not (is_row or (others and others[0].startswith(b"{")))


def _json_lines(lines: Iterable[bytes]) -> Iterator[Found]:
    for number, line in enumerate(lines, 1):
        line = line.removeprefix(BOM.encode()).strip()
        if not line:
            continue
        try:
            values = json.loads(line.decode())
        except (ValueError, RecursionError) as error:  # RecursionError: nested without end
            yield number, None, "not UTF-8" if isinstance(error, UnicodeDecodeError) else "not JSON"
            continue
        yield number, *((values, "") if isinstance(values, dict) else (None, "not a JSON object"))


def _documents(lines: Iterable[bytes]) -> Iterator[Found]:
    begun, text = None, []
    for number, line in _parted_at_ends(map(plain_text, lines)):
        head = _document_head(line)
        if head is not None:
            if begun is not None:
                yield begun[0], None, "document without end"
            begun, text = (number, head), []
        elif begun is None:
            if line.strip():
                yield number, None, "line outside of a document"
        elif line.strip() == DOCUMENT_END:
            yield begun[0], {**begun[1], "text": "".join(text)}, ""
            begun = None
        else:
            text.append(line)
    if begun is not None:
        yield begun[0], None, "document without end"


def _parted_at_ends(lines: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Numbers lines; what follows an end tag is a line of its own, as where a build cuts the file there."""
    for number, line in enumerate(lines, 1):
        while line.startswith(DOCUMENT_END) and line.strip() != DOCUMENT_END:
            yield number, DOCUMENT_END
            line = line.removeprefix(DOCUMENT_END)
        yield number, line


def _document_head(line: str) -> Row | None:
    """Reads the attributes of `<doc id="…" revid="…" url="…" title="…">`, in any order; a title may hold quotes."""
    line = line.rstrip()
    if not (line.startswith("<doc ") and line.endswith('">')):
        return None
    _, *found = re.split(r'(?:^|") *(\w+)="', line[len("<doc ") : -len('">')])
    head = dict(zip(found[::2], found[1::2], strict=True))
    return head if "id" in head else None
