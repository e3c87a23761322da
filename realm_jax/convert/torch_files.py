"""Tensors of a torch `.bin` or `.pt` file, mapped into memory, without torch and without executing its pickle.

A torch file is a pickle that names functions to call. Only the few that rebuild a tensor are known here, and these are
ours; any other name is refused. Reads the zip archives of torch >= 1.6 and the plain format before it.
"""

import collections
import io
import pathlib
import pickle
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import ml_dtypes
import numpy as np

from realm_jax.config import ConfigError

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
_LOCAL_HEADER = struct.Struct("<4s22xHH")  # of a zip member: signature, lengths of its name and of its extra field


def read_torch(file: pathlib.Path) -> dict[str, np.ndarray]:
    """Tensors by name, read only when they are looked at.

    Raises:
        ConfigError: the file is damaged, is no state dict, or its pickle names anything but tensors.
    """
    try:
        value = _read_zip(file) if zipfile.is_zipfile(file) else _read_plain(file)
    except _Refused as error:
        raise ConfigError(
            f"{file}: its pickle asks for {error}, which is no part of a tensor, so it was not opened: "
            "use a safetensors file, or one from a source that you trust"
        ) from error
    except Exception as error:  # a damaged pickle can raise anything
        raise ConfigError(
            f"{file}: is damaged or no torch checkpoint ({type(error).__name__}: {error}): download it again"
        ) from error
    tensors = {name: x for name, x in value.items() if isinstance(x, np.ndarray)} if isinstance(value, dict) else {}
    if not tensors:
        raise ConfigError(f"{file}: holds no tensors by name: pass a state dict, as `model.save_pretrained` writes it")
    return tensors


class _Refused(Exception):
    """A pickle names a global that is no part of a tensor."""


class _TensorUnpickler(pickle.Unpickler):
    """Builds dictionaries of NumPy arrays; refuses every global that is not part of a tensor."""

    def __init__(self, stream: io.BufferedIOBase, storage: Callable[[np.dtype, str, int], Any]):
        super().__init__(stream, encoding="utf-8")
        self._storage = storage

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
        _, dtype, key, _, count, *_ = pid
        return self._storage(dtype, key, count)


class _Storage:
    """The values that tensors are views of."""

    def __init__(self, dtype: np.dtype, count: int):
        self.dtype, self.count = dtype, count
        self.values: np.ndarray | None = None


def _tensor(storage: _Storage, offset: int, shape: tuple, stride: tuple, *_) -> np.ndarray:
    """A view of a storage; checks that it stays inside."""
    last = offset + sum((size - 1) * step for size, step in zip(shape, stride, strict=True))
    if 0 in shape:
        return np.empty(shape, storage.dtype)
    if offset < 0 or min((*stride, 0)) < 0 or last >= storage.count:
        raise ValueError(f"a tensor of shape {shape} reaches beyond its {storage.count} values")
    itemsize = storage.dtype.itemsize
    return np.lib.stride_tricks.as_strided(
        storage.values[offset:], shape, [step * itemsize for step in stride], writeable=False
    )


def _read_zip(file: pathlib.Path) -> Any:
    with zipfile.ZipFile(file) as archive:
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise ValueError("no data.pkl in the archive")
        folder = pickles[0].removesuffix("data.pkl")

        def storage(dtype: np.dtype, key: str, count: int) -> _Storage:
            member = archive.getinfo(f"{folder}data/{key}")
            if member.compress_type != zipfile.ZIP_STORED or member.file_size < count * dtype.itemsize:
                raise ValueError(f"{member.filename} does not hold {count} values")
            found = _Storage(dtype, count)
            found.values = np.memmap(file, dtype, "r", _member_start(file, member), (count,)) if count else np.empty(0)
            return found

        return _TensorUnpickler(io.BytesIO(archive.read(pickles[0])), storage).load()


def _member_start(file: pathlib.Path, member: zipfile.ZipInfo) -> int:
    with open(file, "rb") as stream:
        stream.seek(member.header_offset)
        signature, name, extra = _LOCAL_HEADER.unpack(stream.read(_LOCAL_HEADER.size))
    if signature != b"PK\x03\x04":
        raise zipfile.BadZipFile(f"no member at {member.header_offset}")
    return member.header_offset + _LOCAL_HEADER.size + name + extra


def _read_plain(file: pathlib.Path) -> Any:
    """Pickles of a magic number, a version, the sizes of C types, the tensors and the order of storages, then these."""
    storages: dict[str, _Storage] = {}

    def storage(dtype: np.dtype, key: str, count: int) -> _Storage:
        return storages.setdefault(key, _Storage(dtype, count))

    with open(file, "rb") as stream:
        if _TensorUnpickler(stream, storage).load() != _MAGIC:
            raise ValueError("not torch's magic number")
        for _ in range(2):
            _TensorUnpickler(stream, storage).load()
        start = stream.tell()
        _Skeleton(stream, storage).load()
        keys = _TensorUnpickler(stream, storage).load()
        for key in keys:
            count = struct.unpack("<q", stream.read(8))[0]
            found = storages[key]
            if count != found.count:
                raise ValueError(f"storage {key} has {count} values instead of {found.count}")
            position = stream.tell()
            found.values = np.memmap(file, found.dtype, "r", position, (count,)) if count else np.empty(0, found.dtype)
            stream.seek(position + count * found.dtype.itemsize)
        stream.seek(start)
        return _TensorUnpickler(stream, storage).load()  # now that the storages are known


class _Skeleton(_TensorUnpickler):
    """First pass over the plain format: its tensors come before their values."""

    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name)
        return (lambda *_: None) if found is _tensor else found
