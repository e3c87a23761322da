"""What a SOURCE holds: its tensors by name, its config.json and its folder, whatever the file format.

A SOURCE is a folder, a file (`.safetensors`, `.bin`, `.pt`), a TensorFlow checkpoint's prefix, or a Hugging Face id.
Arrays are mapped into memory and read when they are used.
"""

import json
import pathlib
import struct
from dataclasses import dataclass

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from realm_jax.config import ConfigError
from realm_jax.convert.tensor_bundle import is_bundle, read_bundle
from realm_jax.convert.torch_files import read_torch
from realm_jax.data import assets

BLOCK_RECORDS = "block_records.npy"
_SAFETENSORS_DTYPES = {
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
class Checkpoint:
    """An opened SOURCE."""

    spec: str
    """As the user gave it."""
    tensors: dict[str, np.ndarray]
    is_tf: bool
    config: dict | None
    """config.json; None where there is none."""
    folder: pathlib.Path
    """Where tokenizer files may lie."""
    block_records: pathlib.Path | None
    """Texts of the knowledge corpus, if the SOURCE brings them."""


def open_source(spec: str) -> Checkpoint:
    """Opens what `spec` names, fetching it if need be. Raises ConfigError if nothing can be read there."""
    prefix = pathlib.Path(spec.removesuffix(".index")).expanduser()
    if is_bundle(prefix):
        return _checkpoint(spec, read_bundle(prefix), prefix.parent, is_tf=True)
    path = assets.fetch(spec, assets.CHECKPOINT_FILES)
    if path.name.endswith(".npy"):
        return Checkpoint(spec, {}, False, None, path.parent, path)
    if path.is_file():
        return _checkpoint(spec, _read_file(path), path.parent)
    for pattern in ("*.safetensors", "pytorch_model*.bin", "*.bin", "*.pt"):
        files = sorted(path.glob(pattern))
        if files:
            tensors: dict[str, np.ndarray] = {}
            for file in files:
                tensors |= _read_file(file)
            return _checkpoint(spec, tensors, path)
    prefixes = sorted(file.with_suffix("") for file in path.glob("*.index"))
    if len(prefixes) == 1:
        return _checkpoint(spec, read_bundle(prefixes[0]), path, is_tf=True)
    if (path / BLOCK_RECORDS).exists():
        return _checkpoint(spec, {}, path)
    found = f"several checkpoints ({', '.join(p.name for p in prefixes)})" if prefixes else "no weights"
    raise ConfigError(
        f"{path}: holds {found}: pass a folder with .safetensors or .bin files, or PREFIX of a TensorFlow "
        "checkpoint (PREFIX.index)"
    )


def _checkpoint(spec: str, tensors: dict[str, np.ndarray], folder: pathlib.Path, *, is_tf: bool = False) -> Checkpoint:
    config = folder / ("bert_config.json" if is_tf and not (folder / "config.json").exists() else "config.json")
    records = folder / BLOCK_RECORDS
    return Checkpoint(spec, tensors, is_tf, _read_config(config), folder, records if records.exists() else None)


def _read_config(file: pathlib.Path) -> dict | None:
    if not file.exists():
        return None
    try:
        config = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{file}: is not JSON ({error}): download it again") from error
    if not isinstance(config, dict):
        raise ConfigError(f"{file}: is no JSON object: download it again")
    return config


def _read_file(file: pathlib.Path) -> dict[str, np.ndarray]:
    return _read_safetensors(file) if file.suffix == ".safetensors" else read_torch(file)


def _read_safetensors(file: pathlib.Path) -> dict[str, np.ndarray]:
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
            tensors[name] = values[start:end].view(_SAFETENSORS_DTYPES[entry["dtype"]]).reshape(entry["shape"])
        return tensors
    except (OSError, SafetensorError, KeyError, ValueError, struct.error) as error:
        raise ConfigError(f"{file}: is damaged or no safetensors file ({error}): download it again") from error
