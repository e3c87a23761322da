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
"""How words begin that name a source, and no path."""


def expand(path: str) -> str:
    """A path with `~` and `~user` as a shell has them, and without slashes at the end.

    `file://…` becomes a path, other addresses stay, as do words that name a source.

    Raises:
        ConfigError: nobody has such a home folder.
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
    """The same from the root, so that it means the same in every folder; addresses and names stay."""
    path = expand(path)
    return path if not path or path.startswith(NAMES) or "://" in path else os.path.abspath(path)


def are_same(one: str, other: str) -> bool:
    """Whether two paths, as `absolute` gives them, name the same place, through links too."""
    return one == other or (one.startswith("/") and os.path.realpath(one) == os.path.realpath(other))


def quoted(path: str | os.PathLike) -> str:
    """A path as a word of a command that is printed to be run."""
    return shlex.quote(os.fspath(path))


def printable(path: str | os.PathLike) -> str:
    r"""A path as a text that can be written anywhere, the same in every locale: bytes that are no UTF-8 as `\xe9`."""
    try:
        return os.fsencode(path).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # the locale has no such letter, or nobody has
        return os.fspath(path).encode("utf-8", "backslashreplace").decode()
