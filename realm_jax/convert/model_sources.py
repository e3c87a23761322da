"""Opens a SOURCE by its name: a folder, a file of weights, a TensorFlow checkpoint's prefix, or a Hugging Face id."""

import pathlib

from realm_jax.data import assets
from realm_jax.model_folder.checkpoint import Checkpoint, open_checkpoint
from realm_jax.model_folder.tensor_bundle import is_bundle
from realm_jax.paths import expand


def open_source(spec: str) -> Checkpoint:
    """Opens what `spec` names; downloads it if necessary. Raises ConfigError if nothing can be read there."""
    prefix = pathlib.Path(expand(spec).removesuffix(".index"))
    return open_checkpoint(prefix if is_bundle(prefix) else assets.fetch(spec, assets.CHECKPOINT_FILES), spec)
