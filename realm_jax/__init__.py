"""realm_jax: retrieval-augmented language model pre-training (Guu et al. 2020) in JAX and Flax.

    run = realm_jax.open("runs/nano")
    run.search("Who built Lark House?", k=5)

Importing the package is quick and imports no JAX: each name below is imported when it is first used.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # for editors
    from realm_jax.api.opened_run import Run
    from realm_jax.api.opened_run import open_run as open
    from realm_jax.api.run_inputs import experiment, texts
    from realm_jax.api.stages import evaluate, finetune, pretrain
    from realm_jax.config import Config, ConfigError

__version__ = "0.1.0"
__all__ = [
    "Config",
    "ConfigError",
    "Run",
    "evaluate",
    "experiment",
    "finetune",
    "open",
    "pretrain",
    "texts",
]
_FILES = {
    **dict.fromkeys(("Config", "ConfigError"), "config"),
    **dict.fromkeys(("experiment", "texts"), "api.run_inputs"),
    **dict.fromkeys(("Run", "open"), "api.opened_run"),
    **dict.fromkeys(("evaluate", "finetune", "pretrain"), "api.stages"),
}


def __getattr__(name: str) -> object:
    if name not in _FILES:
        raise AttributeError(f"module 'realm_jax' has no attribute {name!r}: it has {', '.join(__all__)}")
    module = importlib.import_module(f"realm_jax.{_FILES[name]}")
    return getattr(module, "open_run" if name == "open" else name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
