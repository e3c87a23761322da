"""A model that others made, opened: its tensors by name, its config.json, and where its tokenizer may lie."""

import pathlib
from dataclasses import dataclass

import numpy as np

from realm_jax.config import ConfigError
from realm_jax.model_folder.bert_config import SHAPE, read_config
from realm_jax.model_folder.small_files import read_object
from realm_jax.model_folder.weights import find_weights, no_weights

BLOCK_RECORDS = "block_records.npy"


@dataclass(frozen=True)
class Checkpoint:
    """An opened model."""

    spec: str
    """As the user gave it."""
    tensors: dict[str, np.ndarray]
    is_tf: bool
    config: dict | None
    """config.json, checked; None where there is none."""
    config_file: pathlib.Path | None
    folder: pathlib.Path
    """Where tokenizer files may lie."""
    block_records: pathlib.Path | None
    """Texts of the knowledge corpus, if the model brings them."""


def open_checkpoint(path: pathlib.Path, spec: str = "") -> Checkpoint:
    """Opens a folder, a file of weights, a TensorFlow checkpoint's prefix, or a block_records.npy.

    Args:
        spec: what messages call it; by default the path.

    Raises:
        ConfigError: nothing can be read there, files are missing or damaged, or config.json describes no BERT.
    """
    spec = spec or str(path)
    if path.name.endswith(".npy"):
        return Checkpoint(spec, {}, False, None, None, path.parent, path)
    found = find_weights(path)
    folder = path if path.is_dir() else path.parent
    records = folder / BLOCK_RECORDS
    if not found.files and not records.exists():
        raise ConfigError(no_weights(folder))
    config_file, config = read_config(folder, of_google=found.bundle is not None) or (None, None)
    return Checkpoint(
        spec,
        found.read(),
        found.bundle is not None,
        config,
        config_file,
        folder,
        records if records.exists() else None,
    )


def check_folder(folder: pathlib.Path) -> None:
    """Raises ConfigError if a folder says that it is a model and cannot be read as one: for who wants its tokenizer."""
    file = folder / "config.json"
    if file.exists() and {"model_type", "architectures", *SHAPE} & read_object(file).keys():
        read_config(folder)
        find_weights(folder).read()


def weights_sha256(path: pathlib.Path) -> str:
    """What tells a model's weights from others under the same name. Errors as in `find_weights`."""
    return find_weights(path).sha256()
