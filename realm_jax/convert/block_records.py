"""Reads the texts of a `block_records.npy`, a pickled array of bytes, as a stream and without unpickling it.

The published file holds 13,353,718 block bodies; unpickling them takes 20 GB and would run whatever the file asks for.
Here the pickle's opcodes are only listed: those that push bytes give the records, and any that name something else than
an array of objects end the reading.
"""

import array
import io
import pathlib
import pickletools
from collections.abc import Iterator

import numpy as np

from realm_jax.config import ConfigError

_ARRAY_GLOBALS = {
    "numpy.core.multiarray _reconstruct",
    "numpy._core.multiarray _reconstruct",
    "numpy ndarray",
    "numpy dtype",
}
_BYTES = {"SHORT_BINBYTES", "BINBYTES", "BINBYTES8"}
_STRINGS = {"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"}
_MEMOIZE = {"MEMOIZE", "BINPUT", "LONG_BINPUT"}
_RECALL = {"BINGET", "LONG_BINGET"}
_APPEND = {"APPEND", "APPENDS"}
_HARMLESS = {
    "PROTO", "STOP", "MARK", "NONE", "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "TUPLE", "TUPLE1",
    "TUPLE2", "TUPLE3", "EMPTY_TUPLE", "EMPTY_LIST", "LIST", "REDUCE", "BUILD", *_APPEND,
}  # fmt: skip
_OF_BYTES = {"FRAME", "MARK", *_BYTES, *_MEMOIZE, *_RECALL, *_APPEND}  # what a list of bytes is made of
_NONE = 2**64 - 1


def count_records(file: pathlib.Path) -> int:
    """The number of records, from the header. Raises ConfigError if the file is no one-dimensional object array."""
    with _open(file) as stream:
        return _header(file, stream)


def read_records(file: pathlib.Path) -> Iterator[str]:
    """The records in order.

    Raises:
        ConfigError: the file is damaged, its pickle names something else than an array of bytes, or a record is not
            in UTF-8.
    """
    with _open(file) as stream:
        expected, found = _header(file, stream), 0
        for record in _bytes_of_list(file, stream):
            found += 1
            try:
                yield record.decode()
            except UnicodeDecodeError as error:
                raise ConfigError(f"{file}: record {found - 1} is not UTF-8 ({error}): download it again") from error
        if found != expected:
            raise ConfigError(f"{file}: holds {found} of {expected} records: download it again")


def _open(file: pathlib.Path) -> io.BufferedIOBase:
    try:
        return open(file, "rb", buffering=1 << 20)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror}): pass another block_records.npy") from error


def _header(file: pathlib.Path, stream: io.BufferedIOBase) -> int:
    try:
        version = np.lib.format.read_magic(stream)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
    except Exception as error:  # NumPy evaluates the header, and a damaged one can raise anything
        raise ConfigError(f"{file}: is no .npy file ({error}): pass a block_records.npy") from error
    if dtype != np.dtype(object) or len(shape) != 1 or shape[0] < 0:
        raise ConfigError(f"{file}: is an array of {dtype} {shape}, not a list of texts: pass a block_records.npy")
    return shape[0]


def _bytes_of_list(file: pathlib.Path, stream: io.BufferedIOBase) -> Iterator[bytes]:
    """The bytes that the pickle puts into the array's list; a record that it repeats is read again at its position."""
    positions = array.array("Q")  # by number in the memo
    strings: dict[int, str] = {}
    pushed: list[str] = []  # the last two strings: what STACK_GLOBAL looks up
    in_list, only_bytes, last = False, True, None
    try:
        for opcode, argument, position in pickletools.genops(stream):
            name = opcode.name
            only_bytes = only_bytes and (name in _OF_BYTES or not in_list)
            if name in _BYTES:
                last = position
                if in_list:
                    yield argument
            elif name in _STRINGS:
                last = argument
                pushed = [*pushed[-1:], argument]
            elif name in _MEMOIZE:
                number = len(positions) if name == "MEMOIZE" else argument
                if number > len(positions):
                    raise ValueError(f"memo {number} comes after {len(positions)}")
                positions.extend([_NONE] * (number + 1 - len(positions)))
                if isinstance(last, str):
                    strings[number] = last
                elif last is not None:
                    positions[number] = last
            elif name in _RECALL:
                last = strings.get(argument)
                if last is not None:
                    pushed = [*pushed[-1:], last]
                if in_list and positions[argument] != _NONE:
                    yield _bytes_at(file, positions[argument])
                elif in_list:
                    only_bytes = False
            elif name in ("GLOBAL", "STACK_GLOBAL"):
                last = None
                asked = argument if name == "GLOBAL" else " ".join(pushed)
                if asked not in _ARRAY_GLOBALS:
                    raise ConfigError(
                        f"{file}: its pickle asks for {asked.replace(' ', '.')}, which is no part of an array of "
                        "texts, so it was not opened: use a block_records.npy from a source that you trust"
                    )
            elif name in _APPEND and not only_bytes:
                raise ConfigError(f"{file}: holds other things than bytes: pass a block_records.npy, an array of bytes")
            elif name in _HARMLESS:
                last = None
                in_list = in_list or name == "EMPTY_LIST"
            elif name != "FRAME":  # which may come between an object and its memo
                raise ConfigError(
                    f"{file}: its pickle has the opcode {name}, which no array of texts needs, so it was not opened: "
                    "use a block_records.npy from a source that you trust"
                )
    except ConfigError:
        raise
    except Exception as error:  # pickletools raises ValueError, but a damaged pickle can raise others
        raise ConfigError(f"{file}: is damaged ({error}): download it again") from error


def _bytes_at(file: pathlib.Path, position: int) -> bytes:
    """The record that the opcode at `position` pushes."""
    with open(file, "rb") as stream:
        stream.seek(position)
        _, argument, _ = next(iter(pickletools.genops(stream)))
    return argument
