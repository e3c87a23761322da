"""Finds the files of a folder that hold its weights, and maps their tensors into memory.

The standard files are `model.safetensors`, or else `pytorch_model.bin`, each whole or in the shards that its index
names. Without these, a TensorFlow checkpoint or the only file of weights is taken. If there are several, that is an
error.
"""

import hashlib
import json
import os
import pathlib
import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from realm_jax.config import ConfigError
from realm_jax.model_folder import Tensors
from realm_jax.model_folder.small_files import check_is_there, read_object, shown
from realm_jax.model_folder.tensor_bundle import bundle_files, is_bundle, read_bundle
from realm_jax.model_folder.torch_files import read_torch

STANDARD = ("model.safetensors", "pytorch_model.bin")
_INDEX = ".index.json"
_SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<suffix>\.safetensors|\.bin|\.pt)")
SUFFIXES = (".safetensors", ".bin", ".pt")
# Files that trainers write beside the weights.
_TRAINING = re.compile(r"(training_args|optimizer|scheduler|scaler|rng_state.*)\.(bin|pt)")
_UNREAD = (".h5", ".msgpack", ".onnx", ".ot", ".gguf", ".pth", ".ckpt")
_DTYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "I64": np.int64,
    "I32": np.int32,
    "U8": np.uint8,
    "BOOL": np.bool_,
}


@dataclass(frozen=True)
class WeightFiles:
    """The files that hold a model's weights; none for a folder without."""

    files: tuple[pathlib.Path, ...]
    index: pathlib.Path | None = None
    """The index file that names them."""
    bundle: pathlib.Path | None = None
    """Prefix of the TensorFlow checkpoint that they are."""

    def sha256(self) -> str:
        """SHA-256 of the files' names and contents, in hexadecimal."""
        digest = hashlib.sha256()
        for file in self.files:
            with open(file, "rb") as stream:
                digest.update(f"{file.name} {hashlib.file_digest(stream, 'sha256').hexdigest()}\n".encode())
        return digest.hexdigest()

    def read(self) -> Tensors:
        """Tensors by name, which are read when they are used.

        Raises:
            ConfigError: a file is damaged or lacks a tensor that the index names, or two files hold different tensors
                of one name.
        """
        if self.bundle is not None:
            return read_bundle(self.bundle)
        tensors: Tensors = {}
        owner: dict[str, pathlib.Path] = {}
        for file in self.files:
            for name, value in _read_file(file).items():
                if name in tensors and not _same(tensors[name], value):
                    raise ConfigError(
                        f"{file} and {owner[name].name} both hold {shown(name)}, and differ: keep one of them"
                    )
                tensors[name], owner[name] = value, file
        if self.index is not None:
            for name, file in _weight_map(self.index).items():
                if owner.get(name) is None or owner[name].name != file:
                    raise ConfigError(
                        f"{self.index} says that {shown(name)} is in {file}, which lacks it: download both"
                    )
        return tensors


def find_weights(path: pathlib.Path) -> WeightFiles:
    """The weights at `path`: a folder, a file of weights, an index file, or a TensorFlow checkpoint's prefix.

    Raises:
        ConfigError: a file is missing that an index or a shard's name implies, or there are several sets of weights.
    """
    prefix = pathlib.Path(str(path).removesuffix(".index"))
    if is_bundle(prefix):
        return WeightFiles(bundle_files(prefix), bundle=prefix)
    if path.name.endswith(_INDEX):
        return _of_index(path)
    if path.is_file():
        shard = _SHARD.fullmatch(path.name)
        if shard and int(shard["count"]) > 1:
            raise ConfigError(f"{path}: is one of {int(shard['count'])} files of a model: pass {path.parent}")
        if path.suffix in (".json", ".txt"):
            raise ConfigError(f"{path}: is no file of weights: pass its folder, {path.parent}")
        return WeightFiles((path,))
    for name in STANDARD:
        whole, index = path / name, path / f"{name}{_INDEX}"
        if os.path.lexists(whole) and os.path.lexists(index):
            found = _of_index(index)
            if found.files != (whole,):
                raise ConfigError(f"{path}: holds both {name} and the files of {index.name}: delete one of the two")
            return found
        if os.path.lexists(whole):
            return WeightFiles((whole,))
        if os.path.lexists(index):
            return _of_index(index)
    return _others(path)


def _others(folder: pathlib.Path) -> WeightFiles:
    """Weights whose files have other names than the standard ones."""
    names = sorted(file.name for file in folder.glob("*") if file.suffix in SUFFIXES)
    indices = sorted(folder.glob(f"*{_INDEX}"))
    sets = {index.name: _of_index(index).files for index in indices}
    in_index = {file.name for files in sets.values() for file in files}
    for name in names:
        if name in in_index or _TRAINING.fullmatch(name):
            continue
        shard = _SHARD.fullmatch(name)
        stem = f"{shard['stem']}{shard['suffix']} in {int(shard['count'])} files" if shard else name
        sets[stem] = (*sets.get(stem, ()), folder / name)
    for suffix in SUFFIXES:  # the same weights in both forms are usual
        of_suffix = {stem: files for stem, files in sets.items() if files[0].suffix == suffix}
        if len(of_suffix) > 1:
            raise ConfigError(
                f"{folder}: holds several sets of weights ({', '.join(of_suffix)}): pass the file, or name it "
                f"{STANDARD[0]}"
            )
        for stem, files in of_suffix.items():
            index = folder / stem if stem.endswith(_INDEX) else None
            return WeightFiles(files if index else _all_shards(files), index)
    prefixes = sorted(file.with_suffix("") for file in folder.glob("*.index") if file.is_file())
    if len(prefixes) > 1:
        raise ConfigError(
            f"{folder}: holds several checkpoints ({', '.join(p.name for p in prefixes)}): pass PREFIX of one "
            "(PREFIX.index)"
        )
    return WeightFiles(bundle_files(prefixes[0]), bundle=prefixes[0]) if prefixes else WeightFiles(())


def _below(folder: pathlib.Path, name: str) -> list[pathlib.Path]:
    """Files of a name one or two folders below, where caches and trainers put them."""
    return [*folder.glob(f"*/{name}"), *folder.glob(f"*/*/{name}")]


def no_weights(folder: pathlib.Path) -> str:
    """The message about a folder without weights."""
    others = sorted(file.name for file in folder.glob("*") if file.suffix in _UNREAD)
    found = f"no weights that are read here ({', '.join(others)})" if others else "no weights"
    within = sorted({file.parent for name in STANDARD for file in _below(folder, name)})
    if within:
        return f"{folder}: holds {found}, but {', '.join(map(str, within[:3]))} does: pass that folder"
    return (
        f"{folder}: holds {found}: pass a folder with .safetensors or .bin files, or PREFIX of a TensorFlow "
        "checkpoint (PREFIX.index)"
    )


def _all_shards(files: Sequence[pathlib.Path]) -> tuple[pathlib.Path, ...]:
    """All shards of a model, whose names say how many there are. Raises ConfigError if one is missing."""
    shard = _SHARD.fullmatch(files[0].name)
    if not shard:
        return tuple(files)
    count = int(shard["count"])
    wanted = [f"{shard['stem']}-{i:05}-of-{count:05}{shard['suffix']}" for i in range(1, count + 1)]
    return _all_of(files[0].parent, wanted, f"its name says that there are {count}")


def _of_index(index: pathlib.Path) -> WeightFiles:
    names = sorted(set(_weight_map(index).values()))
    return WeightFiles(_all_of(index.parent, names, f"{index.name} names it"), index)


def _all_of(folder: pathlib.Path, names: Sequence[str], why: str) -> tuple[pathlib.Path, ...]:
    for name in names:
        if not (folder / name).exists():
            raise ConfigError(f"{folder / name}: is missing, though {why}: download it")
    return tuple(folder / name for name in names)


def _weight_map(index: pathlib.Path) -> dict[str, str]:
    """The file of each tensor."""
    entries = read_object(index).get("weight_map")
    is_map = isinstance(entries, dict) and entries
    if not is_map or not all(isinstance(f, str) and f == pathlib.PurePath(f).name for f in entries.values()):
        raise ConfigError(f"{index}: has no weight_map from tensors to files of its folder: download it again")
    return entries


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def _read_file(file: pathlib.Path) -> Tensors:
    check_is_there(file)
    return _read_safetensors(file) if file.suffix == ".safetensors" else read_torch(file)


def _read_safetensors(file: pathlib.Path) -> Tensors:
    try:
        with safe_open(file, "np"):  # checks the header against the file
            pass
        with open(file, "rb") as stream:
            header_len = struct.unpack("<Q", stream.read(8))[0]
            header = json.loads(stream.read(header_len))
        header.pop("__metadata__", None)
        values = np.memmap(file, np.uint8, "r")[8 + header_len :]  # once: each mapping takes a file descriptor
        tensors = {}
        for name, entry in header.items():
            start, end = entry["data_offsets"]
            tensors[name] = values[start:end].view(_DTYPES[entry["dtype"]]).reshape(entry["shape"])
        return tensors
    except KeyError as error:
        raise ConfigError(
            f"{file}: has numbers of the type {error}, not of {', '.join(_DTYPES)}: convert it"
        ) from error
    except (OSError, SafetensorError, ValueError, struct.error) as error:
        raise ConfigError(f"{file}: is damaged or no safetensors file ({error}): download it again") from error
