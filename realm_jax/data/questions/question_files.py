"""Question files as rows, told apart by content and read by `sources.rows`; a row that cannot be read is an error.

A row is what JSON or parquet has there; a table's row is an object of its cells, by the header's names, or by their
numbers from 1 where there is no header.
"""

import functools
import pathlib
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from etils import epath

from realm_jax.config import ConfigError
from realm_jax.data.sources import rows, tables
from realm_jax.data.sources.fields import Row
from realm_jax.data.sources.folders import visible_files
from realm_jax.data.sources.tables import Container
from realm_jax.data.sources.unpacked import ENDINGS

ASKS = ("question", "query", "input", "utterance")
"""A table's header has one of these columns, or one that the user named."""
_FILE = re.compile(rf"(\.jsonl?|\.csv|\.tsv|\.txt|\.parquet){ENDINGS}")


@dataclass(frozen=True)
class Rows:
    """The rows of a file with their places."""

    container: Container
    rows: Iterator[tuple[str, int, Row]]
    """(file and place, line or number from 1, row); raises ConfigError at a row that cannot be read."""


def read(file: pathlib.Path, named: Collection[str] = ()) -> Rows:
    """Opens a file of questions.

    Args:
        named: columns that the user named: a table has them in its first line, unless they are numbers.

    Raises:
        ConfigError: it cannot be read, or is neither JSON, nor a table, nor parquet.
    """
    container = rows.look(file, functools.partial(_table, named=named), whole=True).container
    return Rows(container, _located(file, container))


def stem(path: str) -> str:
    """`FILE` of `some/folder/FILE.jsonl.gz`."""
    name = re.sub(ENDINGS, "", pathlib.Path(path).name, count=1)
    return _FILE.sub("", name)


def candidates(folder: pathlib.Path) -> list[pathlib.Path]:
    """Files in a folder and in those below it whose names end as those of questions."""
    return sorted(file for file in visible_files(folder) if _FILE.search(file.name))


def _table(file: epath.PathLike, first: bytes, named: Collection[str]) -> Container:
    """The table that a first line begins: with a header if it has a known column, or one that the user named."""
    delimiter, cells = tables.cells(file, first)
    has_header = any(name in ASKS for name in cells) or not all(name.isdecimal() for name in named)
    if not (delimiter == "\t" or has_header or named):
        raise ConfigError(
            f"{file}: is neither JSON, nor a table with tabs or a header, nor parquet (begins "
            f"{first.decode()[:60].strip()!r}): name a table's columns by --columns=question=…,answers=…, or pass "
            "another file"
        )
    names = tables.distinct(file, cells) if has_header else [str(i + 1) for i in range(len(cells))]
    is_trec = delimiter == "\t" and not has_header and first.count(b"\t") == 3  # its quotation marks are text
    return Container("table", tuple(names), delimiter, has_header, strict=False, quoted=not is_trec)


def _located(file: pathlib.Path, container: Container) -> Iterator[tuple[str, int, Row]]:
    is_numbered = container.kind in ("json", "parquet")
    for number, row, reason in rows.read_file(file, container, whole=True):
        where = f"{file}: record {number}" if is_numbered else f"{file}:{number}"
        if row is None:
            verb = "is" if reason.startswith("not ") else "has"
            raise ConfigError(f"{where}: {verb} {reason}: mend or drop it")
        if container.kind == "table" and container.delimiter == "\t":
            if any(re.search(r"[\t\n]", cell) for cell in row.values()):
                raise ConfigError(f"{where}: a quotation mark that opens a cell is not closed: double it or drop it")
        yield where, number, row
