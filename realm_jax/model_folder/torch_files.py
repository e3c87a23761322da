"""Maps the tensors of a torch `.bin` or `.pt` file into memory, without torch and without executing its pickle.

A torch file is a pickle that names functions to call. Only the few that rebuild a tensor are accepted, and functions of
ours take their place; any other name is refused. Both the zip archives of torch >= 1.6 and the older plain format are
read.
"""

import collections
import io
import operator
import os
import pathlib
import pickle
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, SupportsIndex

import ml_dtypes
import numpy as np

from realm_jax.config import ConfigError
from realm_jax.model_folder import Tensors

_DTYPES = {
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
}
_MAGIC = 0x1950A86A20F9469CFC6C  # first value of the plain format
_ZIP_SIGNATURE = b"PK\x03\x04"
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # of a zip member: signature, lengths of its name and of its extra field


def read_torch(file: pathlib.Path) -> Tensors:
    """Tensors by name, which are read when they are used.

    Raises:
        ConfigError: the file is damaged, is no state dict, or its pickle names anything but tensors.
    """
    try:
        value = _read_zip(file) if _is_zip(file) else _read_plain(file)
    except _Refused as error:
        raise ConfigError(
            f"{file}: its pickle asks for {error}, which is no part of a tensor, so it was not opened: "
            "use a safetensors file, or one from a source that you trust"
        ) from error
    except Exception as error:  # a damaged pickle can raise anything
        raise ConfigError(
            f"{file}: is damaged or no torch checkpoint ({type(error).__name__}: {error}): download it again"
        ) from error
    items = value.items() if isinstance(value, dict) else ()
    tensors = {name: x for name, x in items if isinstance(name, str) and isinstance(x, np.ndarray)}
    if not tensors:
        raise ConfigError(f"{file}: holds no tensors by name: pass a state dict, as `model.save_pretrained` writes it")
    return tensors


class _Refused(Exception):
    """A pickle names a global that is no part of a tensor."""


@dataclass(frozen=True)
class _Storage:
    """Values of which tensors are views."""

    values: np.ndarray


class _TensorUnpickler(pickle._Unpickler):  # the one in C takes all the memory that a damaged file asks for
    """Builds dictionaries of NumPy arrays; refuses every global that is not part of a tensor."""

    def __init__(self, stream: io.BufferedIOBase, storage: Callable[[np.dtype, str, int], Any]):
        super().__init__(stream, encoding="utf-8")
        self._storage = storage

    def load_build(self) -> None:
        """Ignores attributes: tensors need none, and a storage with changed ones could reach anywhere in memory."""
        self.stack.pop()

    dispatch = pickle._Unpickler.dispatch | {pickle.BUILD[0]: load_build}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict
        if module == "torch" and name in _DTYPES:
            return np.dtype(_DTYPES[name])
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if (module, name) == ("torch._utils", "_rebuild_parameter"):
            return lambda data, *_: data
        raise _Refused(f"{module}.{name}")

    def persistent_load(self, pid: Any) -> Any:
        _, dtype, key, _, count, *view = pid
        if view not in ([], [None]):
            raise ValueError(f"storage {key} is a part of another")
        return self._storage(dtype, key, count)


def _tensor(storage: _Storage, offset: SupportsIndex, shape: tuple, stride: tuple, *_) -> np.ndarray:
    """A view of a storage. Raises ValueError if it reaches beyond it."""
    values, offset = storage.values, operator.index(offset)  # NumPy's integers, which a pickle can make, overflow
    shape, stride = tuple(map(operator.index, shape)), tuple(map(operator.index, stride))
    last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    if 0 in shape:
        return np.empty(shape, values.dtype)
    if min((offset, *shape, *stride)) < 0 or last >= len(values):
        raise ValueError(f"a tensor of shape {shape} reaches beyond its {len(values)} values")
    return np.lib.stride_tricks.as_strided(
        values[offset:], shape, [step * values.itemsize for step in stride], writeable=False
    )


def _mapped(file: pathlib.Path) -> np.ndarray:
    """A file's bytes, mapped once: a mapping for each tensor would take a file descriptor each."""
    return np.memmap(file, np.uint8, "r")


def _values(mapped: np.ndarray, dtype: np.dtype, start: int, count: int) -> np.ndarray:
    values = mapped[start : start + count * dtype.itemsize].view(dtype)
    if len(values) != count:
        raise ValueError(f"the file ends before its {count} values at {start}")
    return values


def _is_zip(file: pathlib.Path) -> bool:
    with open(file, "rb") as stream:
        return stream.read(len(_ZIP_SIGNATURE)) == _ZIP_SIGNATURE


def _read_zip(file: pathlib.Path) -> Any:
    mapped = _mapped(file)
    with zipfile.ZipFile(file) as archive:
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError("no data.pkl in the archive")
        folder = pickles[0].removesuffix("data.pkl")

        def storage(dtype: np.dtype, key: str, count: int) -> _Storage:
            member = archive.getinfo(f"{folder}data/{key}")
            if member.compress_type != zipfile.ZIP_STORED or member.file_size < count * dtype.itemsize:
                raise ValueError(f"{member.filename} does not hold {count} values")
            return _Storage(_values(mapped, dtype, _member_start(mapped, member), count))

        return _TensorUnpickler(io.BytesIO(archive.read(pickles[0])), storage).load()


def _member_start(mapped: np.ndarray, member: zipfile.ZipInfo) -> int:
    signature, name, extra = _LOCAL_HEADER.unpack_from(mapped, member.header_offset)
    if signature != _ZIP_SIGNATURE:
        raise zipfile.BadZipFile(f"no member at {member.header_offset}")
    return member.header_offset + _LOCAL_HEADER.size + name + extra


def _read_plain(file: pathlib.Path) -> Any:
    """Reads the plain format.

    It is a row of pickles: a magic number, a version, the sizes of C types, the tensors, the order of the storages. The
    storages follow.
    """
    sizes: dict[str, tuple[np.dtype, int]] = {}
    storages: dict[str, _Storage] = {}

    def note(dtype: np.dtype, key: str, count: int) -> None:
        sizes[key] = dtype, count

    mapped = _mapped(file)
    with open(file, "rb") as stream:
        if _TensorUnpickler(stream, note).load() != _MAGIC:
            raise ValueError("not torch's magic number")
        for _ in range(2):
            _TensorUnpickler(stream, note).load()
        start = stream.tell()
        _Skeleton(stream, note).load()
        for key in _TensorUnpickler(stream, note).load():
            count = struct.unpack("<q", stream.read(8))[0]
            dtype, expected = sizes[key]
            if count != expected:
                raise ValueError(f"storage {key} has {count} values instead of {expected}")
            storages[key] = _Storage(_values(mapped, dtype, stream.tell(), count))
            stream.seek(count * dtype.itemsize, os.SEEK_CUR)
        stream.seek(start)
        return _TensorUnpickler(stream, lambda dtype, key, count: storages[key]).load()


class _Skeleton(_TensorUnpickler):
    """The first pass over the plain format, in which tensors come before their values: notes what they need."""

    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name)
        return (lambda *_: None) if found is _tensor else found
