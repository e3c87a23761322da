"""Files of records in parts: lines, tables and `<doc>` elements by bytes, parquet by row groups, JSON by number.

`recognise` knows what the files are; a bad record is counted, by reason.
"""

import functools
import itertools
from collections import Counter
from collections.abc import Iterable, Iterator

from etils import epath

from realm_jax.config import ConfigError
from realm_jax.data.build import source_parts
from realm_jax.data.build.source_parts import Part, Progress
from realm_jax.data.sources import rows, tables
from realm_jax.data.sources.checked import counted
from realm_jax.data.sources.formats import record_of
from realm_jax.data.sources.recognise import Taken
from realm_jax.data.sources.tables import Found
from realm_jax.records import Record

PART_RECORDS = 20_000  # of a file that is one JSON text
ENDS = {"lines": b"\n", "documents": b"\n</doc>"}


class RecordFiles:
    """A source of files of records, in any format of `formats`."""

    def __init__(self, taken: Taken):
        self.files = [epath.Path(file) for file in taken.files]
        self._taken = taken

    def plan(
        self, folder: epath.Path, part_bytes: int, *, most: int | None = None, progress: Progress | None = None
    ) -> list[Part]:
        """Divides the files into parts of about `part_bytes`; raises ConfigError for a damaged file."""
        planned: list[Part] = []
        for number, file in enumerate(self.files):
            room = None if most is None else most - len(planned)
            planned += self._plan(file, folder / str(number), part_bytes, most=room, progress=progress)
            if most is not None and len(planned) >= most:
                break
        return source_parts.grouped(planned, part_bytes)[:most]

    def _plan(
        self, file: epath.Path, folder: epath.Path, part_bytes: int, *, most: int | None, progress: Progress | None
    ) -> list[Part]:
        container = self._taken.container
        if container.kind == "parquet":
            return _row_groups(file)
        if container.kind == "json":
            return _numbers(file)
        if container.kind == "table":
            pieces = functools.partial(tables.table_rows, container=container, where=str(file))
            return source_parts.cut(file, folder, part_bytes, pieces=pieces, most=most, progress=progress)
        end = ENDS[container.kind]
        return source_parts.cut(file, folder, part_bytes, delimiter=end, most=most, progress=progress)

    def records(self, part: Part, counts: Counter) -> Iterator[Record]:
        """Yields the records of a part, in order; counts bad ones and those without text, by reason."""
        form = self._taken.the_form()

        def found() -> Iterator[tuple[Record | None, str]]:
            for file, row, reason in self._rows(part):
                yield (None, reason) if row is None else record_of(form, row, counts, file)

        yield from counted(found(), counts)

    def _rows(self, part: Part) -> Iterator[tuple[str, dict | None, str]]:
        """Yields (file, fields, reason) of the rows of a part."""
        container = self._taken.container
        if container.kind == "parquet":
            for file, start, limit in part.pieces:
                for row in rows.parquet_rows(file, range(start, limit), self._taken.wanted):
                    yield file, row, ""
        elif container.kind == "json":
            for file, start, limit in part.pieces:
                for _, row, reason in itertools.islice(rows.read_file(file, container), start, limit):
                    yield file, row, reason
        else:
            for piece in part.pieces:
                for _, row, reason in _of_piece(piece, self._taken):
                    yield piece[0], row, reason


def _of_piece(piece: tuple[str, int, int], taken: Taken) -> Iterator[Found]:
    return rows.read_lines(_lines(source_parts.read_piece(*piece)), taken.container, piece[0])


def _lines(data: bytes) -> Iterable[bytes]:
    """Splits data into lines as a file does: only a line feed ends one."""
    *lines, last = data.split(b"\n")
    yield from (line + b"\n" for line in lines)
    if last:
        yield last


def _row_groups(file: epath.Path) -> list[Part]:
    """Makes a part of each row group, which is never cut."""
    with rows.open_parquet(file) as table:
        metadata = table.metadata
    sizes = [metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups)]
    shares = file.stat().length / max(1, sum(sizes))
    return [Part([(str(file), i, i + 1)], int(size * shares)) for i, size in enumerate(sizes)]


def _numbers(file: epath.Path) -> list[Part]:
    total = len(rows.json_rows(file))
    if not total:
        raise ConfigError(f"{file}: has no record: pass another --source")
    share = file.stat().length // -(-total // PART_RECORDS)
    return [Part([(str(file), i, min(i + PART_RECORDS, total))], share) for i in range(0, total, PART_RECORDS)]
