"""Folders in a bucket (`gs://…`): what differs from a local disk.

An object appears whole or not at all, and everyone sees it at once; but it cannot grow, and no folder of objects can be
renamed. So what grows is written whole again, and of several files the one that readers look for comes last.
"""

import os
import pathlib
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

import fsspec
import fsspec.config
from etils import epath

from realm_jax.config import ConfigError

COPY_THREADS = 8
REWRITE_S = 30.0

# gcsfs would remember what a folder holds; here other processes write beside us.
fsspec.config.conf.setdefault("gcs", {}).setdefault("use_listings_cache", False)


def is_remote(path: os.PathLike | str) -> bool:
    """Whether the path is in a bucket."""
    return "://" in os.fspath(path)


def check_reach(path: os.PathLike | str) -> None:
    """Raises ConfigError if a path is in a bucket that this process cannot reach; the message says what to do."""
    if not is_remote(path):
        return
    bucket = epath.Path(*epath.Path(path).parts[:3])  # /, gs, NAME
    try:
        is_there = bucket.exists()
    except ImportError as error:
        raise ConfigError(f"{path}: folders in a bucket need gcsfs: pip install 'realm_jax[gcs]'") from error
    except Exception as error:  # gcsfs's, and those of its transport, have no common base
        raise ConfigError(
            f"{path}: the bucket cannot be read ({' '.join(str(error).split())[:200]}): give this machine's account "
            "roles/storage.objectUser on it, or log in by gcloud auth application-default login"
        ) from error
    if not is_there:
        raise ConfigError(f"{path}: there is no such bucket: make it, or correct the name")


def copy_files(names: Iterable[str], source: epath.Path, target: epath.Path) -> None:
    """Copies files by their paths within two folders, several at a time; either may be in a bucket."""

    def copy(name: str) -> None:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).copy(target / name, overwrite=True)

    with ThreadPoolExecutor(COPY_THREADS) as threads:
        list(threads.map(copy, names))


def move(source: epath.Path, target: epath.Path) -> None:
    """Gives a folder another name. In a bucket its files are copied; killed before the end, it leaves both."""
    if not is_remote(source):
        target.parent.mkdir(parents=True, exist_ok=True)
        source.rename(target)
        return
    system, _ = fsspec.core.url_to_fs(os.fspath(source))
    system.copy(os.fspath(source), os.fspath(target), recursive=True)
    system.rm(os.fspath(source), recursive=True)


def create(file: epath.Path, content: bytes) -> bool:
    """Makes an object; False, and nothing is done, if it is there: of several processes, one alone makes it.

    Args:
        content: that of no other process.
    """
    system, path = fsspec.core.url_to_fs(os.fspath(file))
    try:
        system.pipe_file(path, content, mode="create")
    except FileExistsError:
        # It is ours if the answer to an earlier request was lost, which gcsfs then repeated.
        return system.exists(path) and system.cat_file(path) == content
    return True


def upload(source: pathlib.Path, target: epath.Path, *, last: str) -> None:
    """Copies a local folder; readers take it for whole once they see the file `last`, if it is among the files."""
    names = [file.relative_to(source).as_posix() for file in source.rglob("*") if file.is_file()]
    copy_files([name for name in names if name != last], epath.Path(source), target)
    copy_files([name for name in names if name == last], epath.Path(source), target)


class GrowingFile:
    """A text file that is appended to. In a bucket it is kept in memory and written whole every `REWRITE_S`."""

    def __init__(self, file: epath.Path):
        self._file, self._is_remote = file, is_remote(file)
        self._text = file.read_text(encoding="utf-8") if self._is_remote and file.exists() else ""
        self._written = time.monotonic()

    def append(self, text: str) -> None:
        """Adds to the end: at once on a disk."""
        if not self._is_remote:
            with self._file.open("a", encoding="utf-8") as file:
                file.write(text)
            return
        self._text += text
        if time.monotonic() - self._written > REWRITE_S:
            self.flush()

    def flush(self) -> None:
        """Writes what is still in memory."""
        if self._is_remote:
            self._file.write_text(self._text, encoding="utf-8")
            self._written = time.monotonic()
