"""REALM's own annotated corpus, `salient_span_wikipedia`, whose sentences and salient spans are used as they are.

It comes in three forms: its source (gzip TFRecord files with byte offsets of sentences and spans), and copies that
tensorflow-datasets prepared, `documents` or `sentences`, as TFRecord or array_record. Its `wikipedia` is read, too.
"""

import io
import itertools
import pathlib
import struct
from collections import Counter
from collections.abc import Iterator

from array_record.python import array_record_module
from etils import epath

from realm_jax.config import ConfigError
from realm_jax.data import published
from realm_jax.data.build import source_parts
from realm_jax.data.build.source_parts import Part, Progress
from realm_jax.data.sources.checked import checked_record, counted
from realm_jax.data.sources.unpacked import DAMAGED, open_plain
from realm_jax.records import Record, Span

LONGEST_EXAMPLE = 1 << 30  # bytes: a larger length is damaged
NAMES = {  # our name -> that of the source, and that of a prepared copy
    "span_start": ("span_byte_start", "spans/start"),
    "span_limit": ("span_byte_limit", "spans/limit"),
    "span_type": ("span_type", "spans/type"),
    "sentence_start": ("sentence_byte_start", "sentences/start"),
    "sentence_limit": ("sentence_byte_limit", "sentences/limit"),
}


class TfExamples:
    """The format `tfds`: each file is a part of its own, or is joined with its neighbours."""

    def __init__(self, files: list[epath.Path]):
        self.files = files

    def plan(
        self, folder: epath.Path, part_bytes: int, *, most: int | None = None, progress: Progress | None = None
    ) -> list[Part]:
        """Divides the files into parts of about `part_bytes`."""
        del folder, progress
        planned = [Part([(str(file), 0, file.stat().length)], file.stat().length) for file in self.files]
        return source_parts.grouped(planned, part_bytes)[:most]

    def records(self, part: Part, counts: Counter) -> Iterator[Record]:
        """Yields the documents (or single sentences) of a part, with the source's own sentences and spans, if any."""
        for file, _, _ in part.pieces:
            name = pathlib.PurePath(file).name
            examples = enumerate(examples_of(epath.Path(file)))
            yield from counted(
                (_record(published.parse_example(data), f"{name}:{number}", counts) for number, data in examples),
                counts,
            )


def examples_of(file: epath.Path) -> Iterator[bytes]:
    """Yields the serialised examples of a .tfrecord (or .gz) or .array_record file. Raises ConfigError if damaged."""
    if "array_record" in file.name:
        reader = array_record_module.ArrayRecordReader(str(file))
        for _ in range(reader.num_records()):
            yield reader.read()
        reader.close()
        return
    with open_plain(file) as opened:
        try:
            while (data := _next(opened)) is not None:
                yield data
        except DAMAGED as error:
            raise ConfigError(f"{file}: is truncated or damaged ({error}): download it again") from error


def _next(opened: io.BufferedIOBase) -> bytes | None:
    """Reads a length, its checksum, the data, its checksum. gzip has checksums of its own; these are not checked."""
    head = opened.read(12)
    if not head:
        return None
    if len(head) < 12:
        raise EOFError("half a record")
    (length,) = struct.unpack("<Q", head[:8])
    if length > LONGEST_EXAMPLE:
        raise EOFError("a length beyond reason")
    data = opened.read(length + 4)
    if len(data) < length + 4:
        raise EOFError("half a record")
    return data[:-4]


def _record(values: dict[str, list], where: str, counts: Counter) -> tuple[Record | None, str]:
    def one(name: str) -> str:
        return values[name][0].decode("utf-8", "replace") if values.get(name) else ""

    text = one("text")
    record, reason = checked_record(one("uid") or where, one("title"), text)
    found = {ours: values.get(theirs, values.get(prepared, [])) for ours, (theirs, prepared) in NAMES.items()}
    if record is None or not (found["sentence_start"] or found["span_start"]):
        return record, reason
    place = _Places(text)
    if found["sentence_start"]:
        sentences = place.ranges(found["sentence_start"], found["sentence_limit"])
    else:  # a prepared copy of single sentences
        sentences = [(0, len(text))]
    spans = []
    bounds = place.ranges(found["span_start"], found["span_limit"])
    for bound, kind in zip(bounds, found["span_type"], strict=True):
        if None in (bound, *sentences):
            return None, "offsets inside a character"
        inside = any(start <= bound[0] < bound[1] <= limit for start, limit in sentences)
        counts["spans across sentences"] += not inside
        if inside:
            spans.append(Span(*bound, kind.decode().upper()))
    if None in sentences or any(a[1] > b[0] for a, b in zip(sentences, sentences[1:], strict=False)):
        return None, "offsets inside a character or out of order"
    return Record(record.id, record.title, text, where, tuple(sentences), tuple(spans)), ""


class _Places:
    """Finds characters of a text by their byte offsets."""

    def __init__(self, text: str):
        self._of = None
        data = text.encode()
        self._num_bytes = len(data)
        if len(data) != len(text):
            starts = itertools.accumulate((len(character.encode()) for character in text), initial=0)
            self._of = {at: i for i, at in enumerate(starts)}

    def ranges(self, starts: list[int], limits: list[int]) -> list[tuple[int, int] | None]:
        """Gives each (start, limit) in characters; None for a range that cuts a character or leaves the text."""
        return [self._range(int(a), int(b)) for a, b in zip(starts, limits, strict=True)]

    def _range(self, start: int, limit: int) -> tuple[int, int] | None:
        if not 0 <= start < limit <= self._num_bytes:
            return None
        if self._of is None:
            return start, limit
        return (self._of[start], self._of[limit]) if start in self._of and limit in self._of else None
