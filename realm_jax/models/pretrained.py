"""First weights of both BERTs from the folder of a published one, or at random.

Takes any BERT: with or without the `bert.` prefix, LayerNorms named weight/bias or gamma/beta, with or without pooler
and MLM head. What it lacks keeps its random value and is reported.
"""

import pathlib
from typing import Any

import jax
import numpy as np
from jaxtyping import Float32

from realm_jax.config import ConfigError, ModelConfig
from realm_jax.model_folder.bert_config import check_shape, shape_of
from realm_jax.model_folder.checkpoint import Checkpoint, open_checkpoint
from realm_jax.models import parts
from realm_jax.models.names import flatten
from realm_jax.models.shapes import INITS

PARTS = ("embedder", "encoder")
"""What pre-training learns."""


def init_params(
    config: ModelConfig, folder: pathlib.Path | None, seed: int, wanted: tuple[parts.Part, ...] = PARTS
) -> tuple[dict, list[str]]:
    """Parameters of the embedder, of the encoder, or of both, on the host.

    Args:
        folder: holds config.json and weights; None gives random parameters.
        wanted: parts; each has the same parameters, whether the other is wanted or not.

    Returns:
        the parameters, and what the checkpoint did not have (dotted names of ours).

    Raises:
        ConfigError: as in `read_parts`.
    """
    found = read_parts(config, folder) if folder is not None else None
    keys = dict(zip(PARTS, jax.random.split(jax.random.key(seed), len(PARTS)), strict=True))
    params = {part: jax.tree.map(np.array, INITS[part](config, keys[part])) for part in wanted}
    if found is None:
        return params, []
    missing = []
    for part, tree in params.items():
        trees = {f"{part}.{side}": tower for side, tower in tree.items()} if part == "embedder" else {part: tree}
        for name, of_bert in trees.items():
            missing += _fill(of_bert, found[part], name)
    return params, missing


def lacks(missing: list[str]) -> str:
    """Says what the names that `init_params` returns mean: "has no projection: it starts at random"."""
    words = {"projection": "projection", "pooler": "pooler", "mlm": "MLM head"}
    heads = [word for module, word in words.items() if any(f".{module}" in name for name in missing)]
    return f"has no {', no '.join(heads)}: {'it starts' if len(heads) == 1 else 'they start'} at random"


def read_parts(config: ModelConfig, folder: pathlib.Path) -> dict[str, dict[str, Float32[np.ndarray, "*_shape"]]]:
    """What a BERT's folder has of an embedder's tower and of an encoder: parameters by our dotted names.

    Nothing is computed, and little is read: it may be called to see that a folder will do.

    Raises:
        ConfigError: files are missing or damaged, it is no BERT as REALM has one or of another shape than the config,
            parts of it are missing, or it has tensors that are no part of one.
    """
    checkpoint = open_checkpoint(folder)
    check_shape(config, folder, _config_of(checkpoint))
    model = _bert(checkpoint)
    found = {part: flatten(parts.read(model, part, config, part)[0]) for part in ("embedder", "encoder")}
    parts.unused(model, {name: leaf for leaves in found.values() for name, leaf in leaves.items()})
    return found


def load_bert(folder: pathlib.Path, dropout: float) -> tuple[ModelConfig, dict]:
    """(shape, parameters on the host) of the BERT in a folder, without its heads.

    Raises:
        ConfigError: as in `read_parts`.
    """
    checkpoint = open_checkpoint(folder)
    config = ModelConfig(**shape_of(_config_of(checkpoint)), dropout=dropout)
    try:
        config.check()
    except ConfigError as error:
        raise ConfigError(f"{folder}: {error}: pass another BERT") from error
    model = _bert(checkpoint)
    tree, _ = parts.read(model, "encoder", config, "encoder")
    parts.unused(model, flatten(tree))
    return config, jax.tree.map(np.array, tree["bert"])


def _config_of(checkpoint: Checkpoint) -> dict:
    if checkpoint.config is None:
        raise ConfigError(f"{checkpoint.folder} has no config.json: pass --init=FOLDER of a BERT with config.json")
    return checkpoint.config


def _bert(checkpoint: Checkpoint) -> parts.Model:
    """The one BERT of a checkpoint, whatever its heads are."""
    models = parts.find_models(checkpoint)
    if len(models) != 1:
        raise ConfigError(
            f"{checkpoint.folder}: holds {len(models)} models, --init takes one BERT: realm convert "
            "makes a workdir of several"
        )
    models[0].kind = "bert"
    return models[0]


def _fill(tree: dict[str, Any], found: dict[str, np.ndarray], part: str) -> list[str]:
    """Copies what was found into the tree. Returns what was not."""
    missing = []
    for name, leaf in flatten(tree).items():
        if name in found:
            leaf[...] = found[name]
        else:
            missing.append(f"{part}.{name}")
    return missing
