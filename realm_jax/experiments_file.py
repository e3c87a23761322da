"""Loads experiment files: Python files with a function that returns a config, such as those in experiments/."""

import importlib.util
import logging
import pathlib
from typing import Any

from realm_jax.config import ConfigError

log = logging.getLogger(__name__)

EXPERIMENTS = pathlib.Path("experiments")


def load_experiment(path: str, function: str = "get_config", flag: str = "--config") -> Any:
    """Calls a function of an experiment file and returns its result.

    Args:
        path: the file, or the bare name of one in experiments/. Without that folder here, the experiments that came
            with the package are meant.
        function: name of the function.
        flag: the flag that messages name.

    Raises:
        ConfigError: there is no such file, or no such function in it.
    """
    file, installed = _file(path), _installed_experiments()
    if file.parent == EXPERIMENTS and not file.exists() and (installed / file.name).is_file():
        file = installed / file.name
        log.info(f"config: {file} (copy it to change it)")
    if not file.is_file():
        names = {f.name for folder in (EXPERIMENTS, installed) for f in folder.glob("[!_]*.py")}
        known = ", ".join(str(EXPERIMENTS / name) for name in sorted(names)) or "none here"
        raise ConfigError(f"no experiment file {path}: pass {flag}=FILE.py (in experiments/: {known})")
    if file.suffix != ".py":
        raise ConfigError(f"{path} is no experiment file, which are Python: pass {flag}=FILE.py")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, function):
        raise ConfigError(f"{path} defines no {function}(): see experiments/nano.py and experiments/ablations.py")
    return getattr(module, function)()


def _file(path: str) -> pathlib.Path:
    file = pathlib.Path(path)
    is_name = path.isidentifier() and not file.exists()
    return EXPERIMENTS / f"{path}.py" if is_name else file


def _installed_experiments() -> pathlib.Path:
    """The folder of the experiment files that came with the package, for use outside of the repository."""
    package = importlib.util.find_spec("realm_jax.experiments")
    return pathlib.Path(package.origin).parent if package else EXPERIMENTS
