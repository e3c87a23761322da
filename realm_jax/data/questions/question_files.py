"""Question files as rows: JSON lines, one JSON value, tables or Parquet, plain or compressed, told apart by content.

A row is what JSON or Parquet has there; a table's row is an object of its cells, by the header's names, or by their
numbers from 1 where there is no header.
"""

import bz2
import codecs
import csv
import gzip
import io
import itertools
import json
import lzma
import pathlib
import re
import zlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

from realm_jax.config import ConfigError
from realm_jax.data.sources.folders import visible_files

ENDINGS = (".json", ".jsonl", ".csv", ".tsv", ".txt", ".parquet")
COMPRESSED: dict[bytes, tuple[str, Callable[[bytes], bytes]]] = {
    b"\x1f\x8b": (".gz", gzip.decompress),
    b"BZh": (".bz2", bz2.decompress),
    b"\xfd7zXZ\x00": (".xz", lzma.decompress),
}
NO_QUESTIONS = {
    b"PK\x03\x04": "is a zip archive: unpack it",
    b"\x28\xb5\x2f\xfd": "is packed by zstd: unpack it",
    b"ARROW1": "is an Arrow file: write it as Parquet or JSON lines",
    b"version https://git-lfs": "is a pointer of git-lfs: fetch the file itself with `git lfs pull`",
}
ASKS = ("question", "query", "input", "utterance")
"""Columns of which a table's header has one."""


@dataclass(frozen=True)
class Rows:
    """The rows of a file with their places."""

    kind: str
    """How they lie there, for people."""
    rows: Iterator[tuple[str, int, Any]]
    """(file and place, line or number from 1, row); raises ConfigError at a row that cannot be read."""


def read(file: pathlib.Path, named: Collection[str] = ()) -> Rows:
    """A file's rows.

    Args:
        named: columns that the user named: a table has them in its first line, unless they are numbers.

    Raises:
        ConfigError: it cannot be read, or is neither JSON, nor a table, nor Parquet.
    """
    data = _unpacked(file)
    for magic, why in NO_QUESTIONS.items():
        if data.startswith(magic):
            raise ConfigError(f"{file}: {why}")
    if data[257:262] == b"ustar":
        raise ConfigError(f"{file}: is a tar archive: unpack it")
    if data.startswith(b"PAR1"):
        return Rows("Parquet", _parquet(file, data))
    text = _decoded(file, data)
    start = text.lstrip()[:1]
    if start in ("{", "["):
        return _json(file, text)
    first = next((line for line in text.splitlines() if line.strip()), "")
    if not first:
        return Rows("empty", iter(()))
    delimiter = "\t" if "\t" in first else ","
    header = [name.strip() for name in next(csv.reader([first], delimiter=delimiter))]
    has_header = any(name in ASKS for name in header) or not all(name.isdecimal() for name in named)
    if "\t" in first or has_header or named:
        return _table(file, text, delimiter, has_header)
    raise ConfigError(
        f"{file}: is neither JSON, nor a table with tabs or a header, nor Parquet (begins {first[:60]!r}): "
        "name a table's columns by --columns=question=…,answers=…, or pass another file"
    )


def stem(path: str) -> str:
    """`FILE` of `some/folder/FILE.jsonl.gz`."""
    name = pathlib.Path(path).name
    for ending, _ in COMPRESSED.values():
        name = name.removesuffix(ending)
    for ending in ENDINGS:
        name = name.removesuffix(ending)
    return name


def candidates(folder: pathlib.Path) -> list[pathlib.Path]:
    """Files in a folder and in those below it whose names end as those of questions."""
    packed = ("", *(ending for ending, _ in COMPRESSED.values()))
    endings = tuple(ending + more for ending in ENDINGS for more in packed)
    return sorted(file for file in visible_files(folder) if file.name.endswith(endings))


def _unpacked(file: pathlib.Path) -> bytes:
    try:
        data = file.read_bytes()
        for magic, (_, unpack) in COMPRESSED.items():
            if data.startswith(magic):
                return unpack(data)
    except (OSError, EOFError, zlib.error, lzma.LZMAError, ValueError) as error:
        raise ConfigError(f"{file}: cannot be read ({error}): make it again or pass another file") from error
    return data


def _decoded(file: pathlib.Path, data: bytes) -> str:
    """A file's text, without its byte order mark."""
    is_wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return data.decode("utf-16" if is_wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise ConfigError(f"{file}:{line}: is not UTF-8 ({error.reason}): convert the file") from error


def _json(file: pathlib.Path, text: str) -> Rows:
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    number, first = lines[0]
    try:
        value = json.loads(first)
    except (ValueError, RecursionError) as error:
        if len(lines) > 1 and lines[1][1].startswith("{") and first.startswith("{"):
            _no_json(f"{file}:{number}", error)
        value = _whole(file, text)
        lines = []
    if isinstance(value, list) and len(lines) <= 1:
        places = ((f"{file}: record {i}", i, row) for i, row in enumerate(value, 1))
        return Rows("a JSON list", places)
    if len(lines) <= 1:
        return Rows("one JSON object", iter([(f"{file}:{number}", number, value)]))
    return Rows("JSON lines", itertools.chain([(f"{file}:{number}", number, value)], _lines(file, lines[1:])))


def _lines(file: pathlib.Path, lines: list[tuple[int, str]]) -> Iterator[tuple[str, int, Any]]:
    for number, line in lines:
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            _no_json(f"{file}:{number}", error)
        yield f"{file}:{number}", number, value


def _whole(file: pathlib.Path, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        _no_json(f"{file}:{error.lineno}", error)
    except (ValueError, RecursionError) as error:
        _no_json(str(file), error)


def _no_json(where: str, error: Exception) -> NoReturn:
    reason = "it is nested too deeply" if isinstance(error, RecursionError) else error
    raise ConfigError(f"{where}: is not JSON ({reason}): mend or drop the line") from error


def _table(file: pathlib.Path, text: str, delimiter: str, has_header: bool) -> Rows:
    csv.field_size_limit(1 << 30)  # the default is 128 KiB
    first = next(line for line in text.splitlines() if line.strip()).split(delimiter)
    if delimiter == "\t" and len(first) == 4 and not has_header:  # CuratedTREC's quotation marks are text
        lines = csv.reader(io.StringIO(text), delimiter=delimiter, quoting=csv.QUOTE_NONE)
    else:
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    rows = _cells(file, lines, delimiter)
    where, _, names = head = next(rows)
    if has_header:
        names = [name.strip() for name in names]
        if len(set(names)) < len(names):
            raise ConfigError(f"{where}: two columns have the same name: rename one")
        return Rows("a table with a header", _named(file, names, rows))
    return Rows("a table", _named(file, [str(i + 1) for i in range(len(names))], itertools.chain([head], rows)))


def _cells(file: pathlib.Path, lines: Any, delimiter: str) -> Iterator[tuple[str, int, list[str]]]:
    try:
        for cells in lines:
            where = f"{file}:{lines.line_num}"
            if delimiter == "\t" and any(re.search(r"[\t\n]", cell) for cell in cells):
                raise ConfigError(f"{where}: a quotation mark that opens a cell is not closed: double it or drop it")
            if any(cell.strip() for cell in cells):
                yield where, lines.line_num, cells
    except csv.Error as error:
        raise ConfigError(f"{file}:{lines.line_num}: is no row of a table ({error}): mend or drop the line") from error


def _named(file: pathlib.Path, names: list[str], rows: Iterator) -> Iterator[tuple[str, int, dict[str, str]]]:
    for where, number, cells in rows:
        if len(cells) != len(names):
            raise ConfigError(f"{where}: has {len(cells)} columns, the first row {len(names)}: mend or drop the line")
        yield where, number, dict(zip(names, cells, strict=True))


def _parquet(file: pathlib.Path, data: bytes) -> Iterator[tuple[str, int, dict]]:
    import pyarrow  # of the extra `data`
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(io.BytesIO(data))
        rows = (row for batch in table.iter_batches() for row in batch.to_pylist())
        for number, row in enumerate(rows, 1):
            yield f"{file}: row {number}", number, row
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"{file}: cannot be read as Parquet ({reason}): make it again or pass another file"
        ) from error
