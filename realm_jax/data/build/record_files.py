"""Files of records: JSON lines of several publishers, and parquet.

`jsonl` {id, title, text}; `wikiextractor` {id, title, text}, many small files without an ending; `ccnews` {title, text
or maintext, url}; `parquet` with columns id, title, text, as Hugging Face's `wikimedia/wikipedia` has them.
"""

import contextlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from etils import epath

from realm_jax.config import ConfigError
from realm_jax.data.build import parts
from realm_jax.data.build.parts import Part, Progress
from realm_jax.types import Record

if TYPE_CHECKING:
    import pyarrow.parquet

COLUMNS = ["id", "title", "text"]
BATCH_ROWS = 1000


class JsonLines:
    """Formats `jsonl`, `wikiextractor` and `ccnews`."""

    def __init__(self, files: list[epath.Path], kind: str):
        self.files, self._kind = files, kind

    def plan(
        self, folder: epath.Path, part_bytes: int, *, most: int | None = None, progress: Progress | None = None
    ) -> list[Part]:
        """Parts of about `part_bytes`; raises ConfigError for a damaged file."""
        planned: list[Part] = []
        for file in self.files:
            room = None if most is None else most - len(planned)
            planned += parts.cut(file, folder, part_bytes, most=room, progress=progress)
            if most is not None and len(planned) >= most:
                break
        return parts.grouped(planned, part_bytes)[:most]

    def records(self, part: Part, counts: Counter) -> Iterator[Record]:
        """Records of a part, in order; bad lines are counted, by reason."""
        lines = (line for piece in part.pieces for line in parts.read_piece(*piece).split(b"\n"))
        yield from counted((self._record(line) for line in lines if line.strip()), counts)

    def _record(self, line: bytes) -> tuple[Record | None, str]:
        try:
            values = json.loads(line)
        except (ValueError, RecursionError):
            return None, "not JSON"
        if not isinstance(values, dict):
            return None, "not a JSON object"
        text = values.get("text") or values.get("maintext")
        record_id = values.get("url") if self._kind == "ccnews" else values.get("id")
        return checked_record(record_id, values.get("title"), text)


class Parquet:
    """Format `parquet`: a row group is never cut."""

    def __init__(self, files: list[epath.Path]):
        self.files = files

    def plan(
        self, folder: epath.Path, part_bytes: int, *, most: int | None = None, progress: Progress | None = None
    ) -> list[Part]:
        """Parts of about `part_bytes`; raises ConfigError for a file that is not such a table."""
        del folder, progress
        planned = []
        for file in self.files:
            with _opened(file) as table:
                metadata = table.metadata
            sizes = [metadata.row_group(i).total_byte_size for i in range(metadata.num_row_groups)]
            shares = file.stat().length / max(1, sum(sizes))
            planned += [Part([(str(file), i, i + 1)], int(size * shares)) for i, size in enumerate(sizes)]
        return parts.grouped(planned, part_bytes)[:most]

    def records(self, part: Part, counts: Counter) -> Iterator[Record]:
        """Rows of a part, in order; those without id or text are counted."""
        yield from counted((checked_record(row["id"], row["title"], row["text"]) for row in _rows(part)), counts)


def counted(found: Iterable[tuple[Record | None, str]], counts: Counter) -> Iterator[Record]:
    """The records among pairs of (record, reason why there is none); counts all of them, and the reasons."""
    for record, reason in found:
        counts["records"] += 1
        if record is not None:
            yield record
        else:
            counts[reason] += 1


def checked_record(record_id: object, title: object, text: object) -> tuple[Record | None, str]:
    """A record, or None and the reason why these make none."""
    if not isinstance(record_id, str | int) or record_id == "":
        return None, "without id"
    if not isinstance(title, str):
        return None, "without title"
    if not isinstance(text, str) or not text.strip():
        return None, "without text"
    if "\x00" in text or _is_broken(title + text):
        return None, "not text"
    return Record(str(record_id), title, text, f"record {record_id}"), ""


def _is_broken(text: str) -> bool:
    """Whether a text cannot be written as UTF-8: JSON can spell half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _rows(part: Part) -> Iterator[dict]:
    for file, start, limit in part.pieces:
        with _opened(epath.Path(file)) as table:
            for batch in table.iter_batches(BATCH_ROWS, row_groups=range(start, limit), columns=COLUMNS):
                yield from batch.to_pylist()


@contextlib.contextmanager
def _opened(file: epath.Path) -> Iterator["pyarrow.parquet.ParquetFile"]:
    """A table for a `with` block; raises ConfigError for a file that is none."""
    import pyarrow
    import pyarrow.parquet

    with contextlib.ExitStack() as stack:
        try:
            table = pyarrow.parquet.ParquetFile(stack.enter_context(file.open("rb")))
        except (pyarrow.ArrowInvalid, OSError) as error:
            raise ConfigError(f"{file}: is no parquet file ({error}): download it again") from error
        missing = [name for name in COLUMNS if name not in table.schema_arrow.names]
        if missing:
            raise ConfigError(f"{file}: has no column {missing[0]!r}: it needs id, title and text")
        yield table
