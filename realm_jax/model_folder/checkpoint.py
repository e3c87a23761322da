"""Opens a model that others made: its tensors by name, its config.json, and the folder where its tokenizer may be."""

import pathlib
from dataclasses import dataclass

from realm_jax.config import ConfigError
from realm_jax.model_folder import Tensors
from realm_jax.model_folder.bert_config import SHAPE, read_config
from realm_jax.model_folder.small_files import read_object
from realm_jax.model_folder.weights import find_weights, no_weights

BLOCK_RECORDS = "block_records.npy"


@dataclass(frozen=True)
class Checkpoint:
    """An opened model."""

    spec: str
    """As the user gave it."""
    tensors: Tensors
    is_tf: bool
    """Whether the tensors have TensorFlow's names and layout, not torch's."""
    config: dict | None
    """The checked content of config.json; None if there is no such file."""
    config_file: pathlib.Path | None
    folder: pathlib.Path
    """The folder where tokenizer files may be."""
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
    """Raises ConfigError if a folder's config.json describes a model that cannot be read.

    For commands that take only the tokenizer of the folder, before hours of work.
    """
    file = folder / "config.json"
    if file.exists() and {"model_type", "architectures", *SHAPE} & read_object(file).keys():
        read_config(folder)
        find_weights(folder).read()


def weights_sha256(path: pathlib.Path) -> str:
    """A hash of a model's files of weights, to notice if they change. Errors as in `find_weights`."""
    return find_weights(path).sha256()
