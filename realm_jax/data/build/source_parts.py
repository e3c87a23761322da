"""The parts of a source: contiguous pieces of its files, each of which becomes one segment of the corpus.

A plain file is only cut by offsets. A compressed one cannot be entered in the middle: it is spilled, which means read
once and written again, as gzip files of whole records, into the folder of the plan.
"""

import dataclasses
import gzip
import io
import itertools
import pathlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from etils import epath

from realm_jax.config import ConfigError
from realm_jax.data.sources.unpacked import DAMAGED, is_compressed, open_plain, unpacker

READ_BYTES = 1 << 20
SPILL_LEVEL = 1  # the level of gzip: a spilled file is read once, and soon
Progress = Callable[[int, int | None], None]
"""Is told (bytes of the source read, bytes in all or None)."""
Pieces = Callable[[Iterable[bytes]], Iterator[bytes]]
"""Joins the lines of a file to the pieces that must not be cut."""


@dataclass(frozen=True)
class Part:
    """One contiguous piece of a source."""

    pieces: list[tuple[str, int, int]]
    """(file, start, limit), in order, in bytes, records or row groups, as the format has it."""
    input_bytes: int
    """Its share of the source's bytes, for progress and estimates."""

    @classmethod
    def from_json(cls, values: dict) -> "Part":
        """Makes a part from what `as_json` wrote."""
        return cls([tuple(piece) for piece in values["pieces"]], values["input_bytes"])


def by_bytes(file: epath.Path, part_bytes: int, delimiter: bytes = b"\n") -> list[Part]:
    """Cuts a plain file at the first delimiter after each multiple of `part_bytes`."""
    size = file.stat().length
    cuts = [0]
    with file.open("rb") as opened:
        while cuts[-1] + part_bytes < size:
            position = cuts[-1] + part_bytes
            opened.seek(position)
            tail = b""
            while block := opened.read(READ_BYTES):
                at = (tail + block).find(delimiter)
                if at >= 0:
                    position += at - len(tail) + len(delimiter)
                    break
                position += len(block)
                tail = (tail + block)[-len(delimiter) + 1 :] if len(delimiter) > 1 else b""
            cuts.append(min(position, size))
    cuts += [size] if cuts[-1] < size or size == 0 else []
    return [Part([(str(file), a, b)], b - a) for a, b in zip(cuts, cuts[1:], strict=False) if b > a]


def cut(
    file: epath.Path,
    folder: epath.Path,
    part_bytes: int,
    *,
    delimiter: bytes = b"\n",
    pieces: Pieces | None = None,
    most: int | None = None,
    progress: Progress | None = None,
) -> list[Part]:
    """Cuts a file by offsets, or spills a compressed one; arguments and errors are those of `spill`."""
    if is_compressed(file):
        return spill(file, folder, part_bytes, delimiter=delimiter, pieces=pieces, most=most, progress=progress)
    return by_bytes(file, part_bytes, delimiter) if pieces is None else by_pieces(file, part_bytes, pieces)


def by_pieces(file: epath.Path, part_bytes: int, pieces: Pieces) -> list[Part]:
    """Cuts a plain file behind the piece with which a part reaches `part_bytes`; reads it once."""
    with file.open("rb") as opened:
        ends = itertools.accumulate((len(chunk) for chunk in _joined(pieces(opened), part_bytes)), initial=0)
        return [Part([(str(file), a, b)], b - a) for a, b in itertools.pairwise(ends)]


def spill(
    file: epath.Path,
    folder: epath.Path,
    part_bytes: int,
    *,
    delimiter: bytes = b"\n",
    pieces: Pieces | None = None,
    most: int | None = None,
    progress: Progress | None = None,
) -> list[Part]:
    """Unpacks a compressed file into gzip files of at least `part_bytes` that end behind a delimiter or a piece.

    Args:
        pieces: the pieces of the lines of the file, where no delimiter shows where it may be cut.
        most: stop after this many parts.
        progress: is told of compressed bytes.

    Raises:
        ConfigError: the file is truncated or damaged; names the last good byte.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts: list[Part] = []
    size = file.stat().length
    stem = pathlib.Path(str(file)).name.split(".")[0]
    with file.open("rb") as raw:
        position, blocks = 0, _unpacked(raw, file)
        if pieces is None:
            chunks = _chunks(blocks, part_bytes, delimiter)
        else:
            chunks = _joined(pieces(_chunks(blocks, 1, b"\n")), part_bytes)
        for number, chunk in enumerate(chunks):
            path = folder / f"{stem}-{number:05}.gz"
            path.write_bytes(gzip.compress(chunk, SPILL_LEVEL, mtime=0))
            at = min(raw.tell(), size)
            parts.append(Part([(str(path), 0, len(chunk))], at - position))
            position = at
            if progress is not None:
                progress(at, size)
            if most is not None and len(parts) == most:
                break
    return parts


def read_piece(file: str, start: int, limit: int) -> bytes:
    """Reads plain bytes [start, limit) of a file as `by_bytes` or `spill` cut it."""
    if is_compressed(file):
        with open_plain(file) as opened:
            return opened.read()[start:limit]
    with epath.Path(file).open("rb") as opened:
        opened.seek(start)
        return opened.read(limit - start)


def grouped(parts: Iterable[Part], part_bytes: int) -> list[Part]:
    """Joins neighbours until a part has `part_bytes`: a folder of many small files gives few segments."""
    groups: list[list[Part]] = []
    for part in parts:
        if not groups or sum(map(_plain_bytes, groups[-1])) + _plain_bytes(part) > part_bytes:
            groups.append([])
        groups[-1].append(part)
    return [Part([piece for p in group for piece in p.pieces], sum(p.input_bytes for p in group)) for group in groups]


def _plain_bytes(part: Part) -> int:
    """Estimates a part's plain bytes: its offsets say them, or count units that are no smaller than a byte."""
    return max(part.input_bytes, sum(limit - start for _, start, limit in part.pieces))


def as_json(parts: list[Part]) -> list[dict]:
    """Turns parts into JSON, for the plan's file."""
    return [dataclasses.asdict(part) for part in parts]


def _unpacked(raw: io.BufferedIOBase, file: epath.Path) -> Iterator[bytes]:
    good = 0
    with unpacker(raw)(raw) as opened:
        while True:
            try:
                block = opened.read(READ_BYTES)
            except DAMAGED as error:
                raise ConfigError(
                    f"{file}: is truncated or damaged behind {good:,} unpacked bytes ({error}): download it again"
                ) from error
            if not block:
                return
            good += len(block)
            yield block


def _chunks(blocks: Iterable[bytes], chunk_bytes: int, delimiter: bytes) -> Iterator[bytes]:
    """Joins blocks to chunks that end behind a delimiter; the last one ends with the file."""
    buffer, searched = bytearray(), 0
    for block in blocks:
        buffer += block
        while len(buffer) >= chunk_bytes:
            at = buffer.find(delimiter, max(searched, chunk_bytes - len(delimiter)))
            searched = max(0, len(buffer) - len(delimiter) + 1) if at < 0 else 0
            if at < 0:
                break
            yield bytes(buffer[: at + len(delimiter)])
            del buffer[: at + len(delimiter)]
    if buffer:
        yield bytes(buffer)


def _joined(pieces: Iterable[bytes], chunk_bytes: int) -> Iterator[bytes]:
    """Joins pieces until they have `chunk_bytes`."""
    buffer = bytearray()
    for piece in pieces:
        buffer += piece
        if len(buffer) >= chunk_bytes:
            yield bytes(buffer)
            buffer.clear()
    if buffer:
        yield bytes(buffer)
