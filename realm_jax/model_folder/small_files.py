"""Reads the small JSON and text files that come with a model, or says in one line what is wrong with them."""

import json
import pathlib

from realm_jax.config import ConfigError

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def check_is_there(file: pathlib.Path) -> None:
    """Raises ConfigError if a file is missing, empty, a folder, or only git-lfs' pointer to the file."""
    try:
        with open(file, "rb") as stream:
            start = stream.read(len(_LFS_POINTER))
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error.strerror}): download it again") from error
    if not start:
        raise ConfigError(f"{file}: is empty: download it again")
    if start == _LFS_POINTER:
        raise ConfigError(f"{file}: is a git-lfs pointer, not the file: run git lfs pull in its folder")


def read_text(file: pathlib.Path) -> str:
    """The text of a UTF-8 file, with newlines as line ends. Raises ConfigError if it is none."""
    check_is_there(file)
    try:
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{file}: is no UTF-8 text ({error.reason} at byte {error.start}): download it again"
        ) from error


def read_object(file: pathlib.Path) -> dict:
    """The JSON object of a file. Raises ConfigError if the file holds anything else."""
    text = read_text(file)
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = "too many brackets" if isinstance(error, RecursionError) else str(error)
        raise ConfigError(f"{file}: is not JSON ({reason}): download it again") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{file}: is no JSON object, but {shown(values)}: download it again")
    return values


def shown(value: object) -> str:
    """A value as messages show it: on one line, and cut if it is long."""
    text = ascii(value) if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
