"""Variables of a TensorFlow checkpoint (`PREFIX.index`, `PREFIX.data-00000-of-00001`), mapped into memory.

No maintained reader works without TensorFlow, and TensorFlow's own reads each variable into memory: block embeddings
take 7 GB. The index is a LevelDB table from variable names to small protocol buffers; the data files hold the arrays
themselves.
"""

import functools
import glob
import math
import pathlib
import struct
from collections.abc import Callable, Iterator

import ml_dtypes
import numpy as np

from realm_jax.config import ConfigError
from realm_jax.model_folder import Tensors
from realm_jax.model_folder.small_files import check_is_there

_TABLE_MAGIC = 0xDB4775248B80FB57
_FOOTER_LEN = 48
_BLOCK_TRAILER_LEN = 5  # kind of compression, checksum
# numbers of tensorflow.DataType
_DTYPES = {1: np.float32, 2: np.float64, 3: np.int32, 9: np.int64, 10: np.bool_, 14: ml_dtypes.bfloat16, 19: np.float16}


def is_bundle(prefix: pathlib.Path) -> bool:
    """Whether a TensorFlow checkpoint has this prefix."""
    return _index(prefix).is_file()


def bundle_files(prefix: pathlib.Path) -> tuple[pathlib.Path, ...]:
    """The index file and the data files that exist."""
    return _index(prefix), *sorted(prefix.parent.glob(f"{glob.escape(prefix.name)}.data-*-of-*"))


def read_bundle(prefix: pathlib.Path) -> Tensors:
    """Variables by name, which are read when they are used; those that hold no numbers are left out.

    Raises:
        ConfigError: a file is missing or damaged, or variables are stored in a way that REALM's checkpoints do not use.
    """
    index = _index(prefix)
    check_is_there(index)
    try:
        entries = dict(_table(index.read_bytes()))
        header = _fields(entries.pop(b""))
        num_shards = header.get(1, [1])[0]
        if header.get(2, [0])[0]:
            raise ValueError("big-endian")

        @functools.cache  # a mapping of each variable would take a file descriptor each
        def shard(number: int) -> np.memmap:
            return np.memmap(f"{prefix}.data-{number:05}-of-{num_shards:05}", np.uint8, "r")

        variables = {}
        for key, value in entries.items():
            variable = _variable(_fields(value), shard)
            if variable is not None:
                variables[key.decode()] = variable
        return variables
    except FileNotFoundError as error:
        raise ConfigError(f"{error.filename}: no such file, though {index} names it: download all of it") from error
    except Exception as error:  # a damaged index can raise anything
        raise ConfigError(
            f"{prefix}: is damaged or no TensorFlow checkpoint as REALM's are ({type(error).__name__}: {error}): "
            "download it again, or pass a safetensors file"
        ) from error


def _index(prefix: pathlib.Path) -> pathlib.Path:
    return pathlib.Path(f"{prefix}.index")


def _variable(entry: dict[int, list], shard: Callable[[int], np.memmap]) -> np.ndarray | None:
    if 7 in entry:
        raise ValueError("a variable is stored in slices")
    dtype = _DTYPES.get(entry[1][0])
    if dtype is None:
        return None
    dims = _fields(entry[2][0]).get(2, []) if 2 in entry else []
    shape = tuple(_fields(dim).get(1, [0])[0] for dim in dims)
    number, offset, size = (entry.get(field, [0])[0] for field in (3, 4, 5))
    if size != math.prod(shape) * np.dtype(dtype).itemsize:
        raise ValueError(f"a variable of shape {shape} takes {size} bytes")
    if not size:
        return np.empty(shape, dtype)
    values = shard(number)
    if offset + size > len(values):
        raise ValueError(f"{values.filename} is too short for its variables")
    return values[offset : offset + size].view(dtype).reshape(shape)


def _table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values of a LevelDB table, in order."""
    footer = data[-_FOOTER_LEN:]
    if len(footer) < _FOOTER_LEN or struct.unpack("<Q", footer[-8:])[0] != _TABLE_MAGIC:
        raise ValueError("the index does not end as a table does")
    _, at = _handle(footer, 0)
    index, _ = _handle(footer, at)
    for _, handle in _block(data, *index):
        yield from _block(data, *_handle(handle, 0)[0])


def _block(data: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Entries of one block; a key is stored as the length that it shares with the key before it, and the rest."""
    block, trailer = _cut(data, offset, size), _cut(data, offset + size, _BLOCK_TRAILER_LEN)
    if trailer[0]:
        raise ValueError("the index is compressed")
    num_restarts = struct.unpack("<I", block[-4:])[0]
    limit, at, key = size - 4 - 4 * num_restarts, 0, b""
    while at < limit:
        shared, at = _varint(block, at)
        added, at = _varint(block, at)
        value_len, at = _varint(block, at)
        key = _cut(key, 0, shared) + _cut(block, at, added)
        at += added
        yield key, _cut(block, at, value_len)
        at += value_len


def _handle(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    offset, at = _varint(data, at)
    size, at = _varint(data, at)
    return (offset, size), at


def _fields(message: bytes) -> dict[int, list]:
    """The values, integers or bytes, of a protocol buffer's fields by their numbers."""
    fields: dict[int, list] = {}
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        kind = tag & 7
        if kind == 0:
            value, at = _varint(message, at)
        elif kind == 2:
            length, at = _varint(message, at)
            value, at = _cut(message, at, length), at + length
        elif kind in (1, 5):
            width = 8 if kind == 1 else 4
            value, at = int.from_bytes(_cut(message, at, width), "little"), at + width
        else:
            raise ValueError(f"unknown wire type {kind}")
        fields.setdefault(tag >> 3, []).append(value)
    return fields


def _cut(data: bytes, at: int, size: int) -> bytes:
    if at + size > len(data):
        raise ValueError("the index is cut off")
    return data[at : at + size]


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
