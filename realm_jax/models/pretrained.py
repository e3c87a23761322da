"""First weights of both BERTs from a published checkpoint in safetensors, or at random.

Takes any BERT-shaped folder: with or without the `bert.` prefix, LayerNorms named weight/bias or gamma/beta, with or
without pooler and MLM head. What the checkpoint lacks keeps its random value and is reported.
"""

import json
import pathlib

import jax
import numpy as np
from safetensors import SafetensorError, safe_open

from realm_jax.config import ConfigError, ModelConfig
from realm_jax.models import embedder, knowledge_encoder

# Ours -> theirs, relative to the BERT and to its layer; the last two columns say kind and transpose.
_EMBEDDINGS = {
    ("embeddings", "word", "embedding"): "embeddings.word_embeddings.weight",
    ("embeddings", "position", "embedding"): "embeddings.position_embeddings.weight",
    ("embeddings", "type", "embedding"): "embeddings.token_type_embeddings.weight",
}
_LAYER = {
    ("attention", "query"): "attention.self.query",
    ("attention", "key"): "attention.self.key",
    ("attention", "value"): "attention.self.value",
    ("attention", "output"): "attention.output.dense",
    ("attention_norm",): "attention.output.LayerNorm",
    ("intermediate",): "intermediate.dense",
    ("output",): "output.dense",
    ("output_norm",): "output.LayerNorm",
}
_MLM = {("transform",): "transform.dense", ("norm",): "transform.LayerNorm"}
_CONFIG_KEYS = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "intermediate_size": "intermediate_size",
    "max_positions": "max_position_embeddings",
}


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
    with _open(folder / "model.safetensors") as tensors:
        source = _Source(tensors, str(folder))
        missing = []
        for side, tower in params["embedder"].items():
            _fill_bert(tower["bert"], source, config.num_layers)
            if "pooler" in tower:
                missing += _fill_optional(tower, {("pooler",): "bert.pooler.dense"}, source, f"embedder.{side}")
            missing.append(f"embedder.{side}.projection")
        _fill_bert(params["encoder"]["bert"], source, config.num_layers)
        missing += _fill_mlm(params["encoder"]["mlm"], source)
    return params, missing


def check_shape(config: ModelConfig, folder: pathlib.Path) -> None:
    """Raises ConfigError, with the flags to pass, if the folder's config.json describes another BERT."""
    file = folder / "config.json"
    if not file.exists():
        raise ConfigError(f"{folder} has no config.json: pass --init=FOLDER of a BERT with config.json")
    theirs = json.loads(file.read_text())
    wrong = []
    for ours, name in _CONFIG_KEYS.items():
        if name not in theirs:
            raise ConfigError(f"{file} lacks {name!r}: is it a BERT? pass --init=FOLDER of one")
        if theirs[name] != getattr(config, ours):
            wrong.append(f"--model.{ours}={theirs[name]}")
    if wrong:
        raise ConfigError(f"{folder} has another shape than the config's model: pass {' '.join(wrong)}")


def _open(file: pathlib.Path):
    try:
        return safe_open(file, "np")
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"{file} cannot be read ({error}): pass --init=FOLDER of a BERT in safetensors") from error


class _Source:
    """Tensors by their usual names, whichever dialect the file speaks."""

    def __init__(self, tensors, folder: str):
        self._tensors, self._folder = tensors, folder
        self._names = {self._usual(name): name for name in tensors.keys()}

    @staticmethod
    def _usual(name: str) -> str:
        name = name.replace(".gamma", ".weight").replace(".beta", ".bias")
        return name if name.startswith(("bert.", "cls.")) else f"bert.{name}"

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self._names:
            raise ConfigError(f"{self._folder}/model.safetensors lacks {name}: pass --init=FOLDER of a whole BERT")
        return np.asarray(self._tensors.get_tensor(self._names[name]), np.float32)


def _fill_bert(bert: dict, source: _Source, num_layers: int) -> None:
    for path, name in _EMBEDDINGS.items():
        _set(bert, path, source[f"bert.{name}"])
    _fill_module(bert["embeddings"]["norm"], source, "bert.embeddings.LayerNorm")
    for i in range(num_layers):
        for path, name in _LAYER.items():
            _fill_module(_get(bert[f"layer_{i}"], path), source, f"bert.encoder.layer.{i}.{name}")


def _fill_optional(tree: dict, modules: dict, source: _Source, ours: str) -> list[str]:
    missing = []
    for path, name in modules.items():
        if f"{name}.weight" in source:
            _fill_module(_get(tree, path), source, name)
        else:
            missing.append(".".join((ours, *path)))
    return missing


def _fill_mlm(mlm: dict, source: _Source) -> list[str]:
    modules = {path: f"cls.predictions.{name}" for path, name in _MLM.items()}
    missing = _fill_optional(mlm, modules, source, "encoder.mlm")
    if "cls.predictions.bias" in source:
        _set(mlm, ("bias",), source["cls.predictions.bias"])
    else:
        missing.append("encoder.mlm.bias")
    return missing


def _fill_module(module: dict, source: _Source, name: str) -> None:
    """A dense layer {kernel, bias} or a LayerNorm {scale, bias}; torch stores kernels transposed."""
    weight = source[f"{name}.weight"]
    if "kernel" in module:
        _set(module, ("kernel",), weight.T)
    else:
        _set(module, ("scale",), weight)
    _set(module, ("bias",), source[f"{name}.bias"])


def _get(tree: dict, path: tuple[str, ...]) -> dict:
    for key in path:
        tree = tree[key]
    return tree


def _set(tree: dict, path: tuple[str, ...], value: np.ndarray) -> None:
    parent = _get(tree, path[:-1])
    if parent[path[-1]].shape != value.shape:
        raise ConfigError(f"{'.'.join(path)} has shape {value.shape} in the checkpoint, {parent[path[-1]].shape} here")
    parent[path[-1]] = value
