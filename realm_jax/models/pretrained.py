"""First weights of both BERTs from a published checkpoint in safetensors, or at random.

Takes any BERT-shaped folder: with or without the `bert.` prefix, LayerNorms named weight/bias or gamma/beta, with or
without pooler and MLM head. What the checkpoint lacks keeps its random value and is reported.
"""

import json
import pathlib
from collections.abc import Mapping
from typing import Literal

import jax
import numpy as np
from safetensors import SafetensorError, safe_open

from realm_jax.config import ConfigError, ModelConfig
from realm_jax.models import embedder, knowledge_encoder
from realm_jax.models.names import Name, flatten, from_torch, names, usual

CONFIG_KEYS = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_hidden_layers": "num_layers",
    "num_attention_heads": "num_heads",
    "intermediate_size": "intermediate_size",
    "max_position_embeddings": "max_positions",
}
"""A BERT's shape: config.json of Hugging Face -> `ModelConfig`."""

GELUS: dict[str, Literal["tanh", "erf"]] = {"gelu": "erf", "gelu_new": "tanh", "gelu_pytorch_tanh": "tanh"}
"""`hidden_act` of config.json -> `ModelConfig.gelu`."""


def init_params(config: ModelConfig, folder: pathlib.Path | None, seed: int) -> tuple[dict, list[str]]:
    """Parameters `{"embedder", "encoder"}` on the host.

    Args:
        folder: holds config.json and model.safetensors; None gives random parameters.

    Returns:
        the parameters, and what the checkpoint did not have (dotted names of ours).

    Raises:
        ConfigError: the checkpoint's shape is not the config's, or a tensor of a present module is missing.
    """
    keys = jax.random.split(jax.random.key(seed), 2)
    params = {"embedder": embedder.init(config, keys[0]), "encoder": knowledge_encoder.init(config, keys[1])}
    params = jax.tree.map(np.array, jax.device_get(params))
    if folder is None:
        return params, []
    check_shape(config, folder)
    with _open(folder / "model.safetensors") as file:
        source = _Tensors(file, folder / "model.safetensors")
        missing = []
        pooler = config.pooling == "cls"
        for side, tower in params["embedder"].items():
            missing += _fill(tower, names("embedder", config.num_layers, pooler=pooler), source, f"embedder.{side}")
        missing += _fill(params["encoder"], names("encoder", config.num_layers), source, "encoder")
    return params, missing


def load_bert(config: ModelConfig, folder: pathlib.Path, params: dict) -> dict:
    """A part's parameters on the host, their `bert` taken from a checkpoint folder. Errors as in `init_params`."""
    params = jax.tree.map(np.array, jax.device_get(params))
    check_shape(config, folder)
    wanted = [name for name in names("encoder", config.num_layers) if name.ours.startswith("bert.")]
    with _open(folder / "model.safetensors") as file:
        _fill(params, wanted, _Tensors(file, folder / "model.safetensors"), "bert")
    return params


def model_config(folder: pathlib.Path, dropout: float) -> ModelConfig:
    """The shape and the GELU that a checkpoint folder's config.json describes. Raises ConfigError for no BERT's."""
    theirs = _read_config(folder)
    activation = theirs.get("hidden_act", "gelu")
    if activation not in GELUS:
        raise ConfigError(f"{folder / 'config.json'}: hidden_act {activation!r} is none of {', '.join(GELUS)}")
    shape = {ours: theirs[name] for name, ours in CONFIG_KEYS.items()}
    return ModelConfig(**shape, gelu=GELUS[activation], dropout=dropout)


def check_shape(config: ModelConfig, folder: pathlib.Path) -> None:
    """Raises ConfigError, with the flags to pass, if the folder's config.json describes another BERT."""
    theirs = _read_config(folder)
    wrong = [
        f"--model.{ours}={theirs[name]}" for name, ours in CONFIG_KEYS.items() if theirs[name] != getattr(config, ours)
    ]
    if wrong:
        raise ConfigError(f"{folder} has another shape than the config's model: pass {' '.join(wrong)}")


def _read_config(folder: pathlib.Path) -> dict:
    file = folder / "config.json"
    if not file.exists():
        raise ConfigError(f"{folder} has no config.json: pass --init=FOLDER of a BERT with config.json")
    theirs = json.loads(file.read_text(encoding="utf-8"))
    for name in CONFIG_KEYS:
        if name not in theirs:
            raise ConfigError(f"{file} lacks {name!r}: is it a BERT? pass --init=FOLDER of one")
    return theirs


def _open(file: pathlib.Path):
    try:
        return safe_open(file, "np")
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"{file} cannot be read ({error}): pass --init=FOLDER of a BERT in safetensors") from error


class _Tensors(Mapping):
    """A file's tensors by the names that `models.names` gives them."""

    def __init__(self, tensors, file: pathlib.Path):
        self._tensors, self.file = tensors, file
        self._names = {usual(name): name for name in tensors.keys()}

    def __getitem__(self, name: str) -> np.ndarray:
        return np.asarray(self._tensors.get_tensor(self._names[name]), np.float32)

    def __iter__(self):
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _fill(tree: dict, wanted: list[Name], source: _Tensors, part: str) -> list[str]:
    """Copies what the file has into the tree. Returns the heads that it has not; the BERT must be whole."""
    leaves, missing = flatten(tree), []
    present = {_module(name) for name in wanted if name.torch in source}
    for name in wanted:
        if name.torch not in source:
            if name.ours.startswith("bert.") or _module(name) in present:
                theirs = name.torch.replace("realm.", "bert.")
                raise ConfigError(f"{source.file} lacks {theirs}: pass --init=FOLDER of a whole BERT")
            missing.append(f"{part}.{name.ours}")
            continue
        value = from_torch(name, source[name.torch])
        if value.shape != leaves[name.ours].shape:
            raise ConfigError(
                f"{source.file}: {name.torch} gives {name.ours} the shape {value.shape}, the config's model says "
                f"{leaves[name.ours].shape}: pass --init=FOLDER of a BERT whose config.json fits its weights"
            )
        leaves[name.ours][...] = value
    return missing


def _module(name: Name) -> str:
    return name.torch.rpartition(".")[0]
