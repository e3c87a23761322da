"""Which files lie below a folder, in the folders within it and in those that links lead to."""

import logging
import os
import pathlib
from collections import deque
from typing import TypeVar

from etils import epath

from realm_jax.buckets import is_remote
from realm_jax.config import ConfigError
from realm_jax.paths import printable

log = logging.getLogger(__name__)

NAMED = 3  # how many broken links a message names


P = TypeVar("P", pathlib.Path, epath.Path)


def visible_files(folder: P) -> list[P]:
    """Lists every file below a folder, in no particular order; hidden ones (`.name`) are left out.

    Links are followed. Each folder is read once, under its own name if it lies in the tree, so that links in a circle
    end. A link to nothing is named on the terminal.

    Raises:
        ConfigError: a folder cannot be read.
    """
    if is_remote(folder):
        return _of_bucket(folder)
    found: list[P] = []
    broken: list[P] = []
    seen: set[tuple[int, int]] = set()
    linked = deque([folder])
    while linked:
        inner = [linked.popleft()]
        while inner:
            entries = _entries(inner.pop(), seen)
            for entry in entries:
                if os.path.islink(entry) and not os.path.exists(entry):
                    broken.append(entry)
                elif entry.is_dir():
                    (linked if os.path.islink(entry) else inner).append(entry)
                elif entry.is_file():
                    found.append(entry)
    if broken:
        more = f" and {len(broken) - NAMED} more" if len(broken) > NAMED else ""
        names = ", ".join(printable(link) for link in broken[:NAMED])
        log.info(f"{printable(folder)}: left out, since nothing is where the link leads: {names}{more}")
    return found


def _entries(folder: P, seen: set[tuple[int, int]]) -> list[P]:
    """Lists what a folder shows; nothing if it was seen before."""
    try:
        stat = os.stat(folder)
        if (stat.st_dev, stat.st_ino) in seen:
            return []
        seen.add((stat.st_dev, stat.st_ino))
        return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        raise ConfigError(f"{printable(folder)}: cannot be read ({error.strerror}): mend its permissions") from error


def _of_bucket(folder: P) -> list[P]:
    visible = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    return [file for entry in visible for file in (_of_bucket(entry) if entry.is_dir() else [entry])]
