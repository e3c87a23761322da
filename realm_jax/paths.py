"""Paths as people write them, and as a run keeps them.

A path flag is read by `expand`, once, where the command reads its flags. What a run keeps in its config is `absolute`,
so that it goes on from any folder.
"""

import os
import pathlib
import shlex
import urllib.parse

from realm_jax.config import ConfigError

NAMES = ("asset:", "tfds:", "hf:", "spacy:")
"""How a word begins that names a source instead of a path."""


def expand(path: str) -> str:
    """The path with `~` and `~user` expanded, as by a shell, and without slashes at the end.

    `file://…` becomes a path, other addresses stay, as do words that name a source.

    Raises:
        ConfigError: there is no such home folder.
    """
    if not path or path.startswith(NAMES):
        return path
    if path.startswith("file:///"):
        path = urllib.parse.unquote(path.removeprefix("file://"))
    if "://" in path:
        return path.rstrip("/")
    try:
        return str(pathlib.Path(path).expanduser())
    except RuntimeError as error:
        raise ConfigError(f"{path}: no home folder is known for it: write the whole path") from error


def absolute(path: str) -> str:
    """The expanded path from the root, which means the same in every folder; addresses and names of sources stay."""
    path = expand(path)
    return path if not path or path.startswith(NAMES) or "://" in path else os.path.abspath(path)


def are_same(one: str, other: str) -> bool:
    """Whether two paths, as `absolute` gives them, name the same place, through links too."""
    return one == other or (one.startswith("/") and os.path.realpath(one) == os.path.realpath(other))


def quoted(path: str | os.PathLike) -> str:
    """A path as a word of a shell command that is printed for people to run."""
    return shlex.quote(os.fspath(path))


def printable(path: str | os.PathLike) -> str:
    r"""A path as a text that can be written anywhere, the same in every locale: bytes that are no UTF-8 as `\xe9`."""
    try:
        return os.fsencode(path).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # the path has a letter that the locale lacks
        return os.fspath(path).encode("utf-8", "backslashreplace").decode()
