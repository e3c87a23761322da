"""Tables, .tsv and .csv (with commas or semicolons), by the rules of Python's csv module.

A field may hold line breaks between its quotes, and quotes within it are doubled.
"""

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from etils import epath

from realm_jax.config import ConfigError
from realm_jax.data.sources.fields import Row
from realm_jax.data.sources.formats import Kind

Found = tuple[int, Row | None, str]
"""(line number, fields or None, the reason why there are none)"""

BOM = "\ufeff"
DELIMITERS = "\t,;"  # the first that the first line has is the table's
NOT_DOUBLED = "quotes within a field that are not doubled"
OTHER_COLUMNS = "another number of columns"

csv.field_size_limit(1 << 27)  # its default, 128 KiB, is less than a long article


@dataclass(frozen=True)
class Container:
    """How records lie in a file."""

    kind: Kind
    columns: tuple[str, ...] = ()
    """The columns of a table, in order."""
    delimiter: str = "\t"
    """What separates the columns of a table."""
    has_header: bool = True
    """False if a table's columns are numbered from 1."""
    strict: bool = True
    """False if quotation marks within a cell of a table need not be doubled."""
    quoted: bool = True
    """False if quotation marks are text."""

    def __str__(self) -> str:
        how = {"lines": "JSON lines", "documents": "<doc> elements", "json": "one JSON text", "table": "a table"}
        return how.get(self.kind, self.kind)


def header(file: epath.PathLike, first: bytes, *, numbered: bool) -> Container:
    """What the first line of a table shows. Raises ConfigError if it is none, or two columns have one name."""
    delimiter, fields = cells(file, first)
    names = [str(i) for i in range(1, len(fields) + 1)] if numbered else fields
    return Container("table", tuple(distinct(file, names)), delimiter, not numbered)


def cells(file: epath.PathLike, first: bytes) -> tuple[str, list[str]]:
    """(delimiter, stripped cells) of the first line of a table. Raises ConfigError if it is no text."""
    delimiter = next((sign for sign in DELIMITERS if sign.encode() in first), ",")
    try:
        (fields,) = csv.reader([first.decode()], delimiter=delimiter)
    except (ValueError, csv.Error) as error:
        raise ConfigError(f"{file}: is no text that we know ({short(error)}): pass JSON lines or a table") from error
    return delimiter, [field.strip() for field in fields]


def distinct(file: epath.PathLike, names: list[str]) -> list[str]:
    """Returns the names of columns as they are. Raises ConfigError if two are the same."""
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigError(f"{file}: two of its columns are called {twice!r}: rename one")
    return names


def table(lines: Iterable[bytes], container: Container, where: str) -> Iterator[Found]:
    """Reads the records of whole lines of a table; `where` is its file. Raises ConfigError at a quote without end."""
    columns = container.columns
    for number, last, fields in _csv(map(plain_text, lines), container, where):
        if fields is None or len(fields) != len(columns):
            reason = NOT_DOUBLED if fields is None else OTHER_COLUMNS
            for line in range(number, last + 1):  # a stray quote may have joined many rows: each line is one lost
                yield line, None, reason
        elif not (container.has_header and tuple(field.strip() for field in fields) == columns):
            yield number, dict(zip(columns, fields, strict=True)), ""


def _csv(lines: Iterable[str], container: Container, where: str) -> Iterator[tuple[int, int, list[str] | None]]:
    """Yields (first and last line, fields or None if the quotes make no row); raises ConfigError as `table`."""
    quoting = csv.QUOTE_MINIMAL if container.quoted else csv.QUOTE_NONE
    reader = csv.reader(lines, delimiter=container.delimiter, strict=container.strict, quoting=quoting)
    while True:
        number = reader.line_num + 1
        try:
            fields: list[str] | None = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if "unexpected end" in str(error) or "field limit" in str(error):
                raise ConfigError(
                    f"{where}:{number}: opens a quote that nothing closes: double the quotes within a field, and put "
                    "the field in quotes, or write JSON lines"
                ) from error
            fields = None
        if fields is None or len(fields) > 1 or "".join(fields).strip():  # no blank line
            yield number, reader.line_num, fields


def table_rows(lines: Iterable[bytes], container: Container, where: str) -> Iterator[bytes]:
    """Yields the lines of a table, those of a row together, since it must not be cut. Raises ConfigError as `table`."""
    taken: list[bytes] = []

    def noted() -> Iterator[str]:
        for line in lines:
            taken.append(line)
            yield plain_text(line)

    for _ in _csv(noted(), container, where):
        yield b"".join(taken)
        taken.clear()
    if taken:
        yield b"".join(taken)


def plain_text(line: bytes) -> str:
    """Decodes a line; what is not UTF-8 becomes half surrogate pairs, which no record may hold."""
    return line.decode(errors="surrogateescape").removeprefix(BOM)


def short(error: Exception) -> str:
    """Puts an error's message into one line."""
    return " ".join(str(error).split())[:200]
