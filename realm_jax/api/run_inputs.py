"""What a run is made from, from Python: settings and texts.

Nothing here imports JAX, whose threads make it unsafe to fork: a notebook may still run shell commands afterwards.
"""

import os
from collections.abc import Iterator

from realm_jax import experiments_file
from realm_jax.config import Config
from realm_jax.data.sources import sources
from realm_jax.records import Record


def experiment(name: str) -> Config:
    """The settings of an experiment, to be changed with `dataclasses.replace`.

    Args:
        name: `nano` or another experiment of the package, or the path of an experiment file.

    Raises:
        ConfigError: there is no such experiment.
    """
    return experiments_file.load_experiment(name)


def texts(source: str | os.PathLike, columns: str = "") -> Iterator[Record]:
    """The texts of a source, as a run with `corpus.knowledge=source` takes them, before they are cut into blocks.

    Args:
        source: a folder of .txt and .md files, a file of records of any form in docs/formats.md, or `asset:NAME`.
        columns: names of a file's fields where they are not the usual ones, as in `corpus.columns`.

    Raises:
        ConfigError: there is no such source, or it cannot be read.
    """
    return sources.read(os.fspath(source), columns).records()
