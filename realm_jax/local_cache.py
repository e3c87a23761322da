"""The cache on this machine's disk: downloads, compiled programs, and copies of what lies in a bucket.

A copy is a folder that is whole or not there at all, is never changed, and is shared by the machine's processes. One
that is `Held` stays while some process holds it and is deleted when a newer one comes; the user may delete the others.
"""

import contextlib
import fcntl
import functools
import logging
import os
import pathlib
import shutil
import tempfile
import weakref
from collections.abc import Callable

from realm_jax.config import ConfigError
from realm_jax.lock import WITHOUT_LOCKS
from realm_jax.paths import expand

log = logging.getLogger(__name__)

UNFINISHED = "unfinished"


def cache_dir() -> pathlib.Path:
    """REALM_JAX_CACHE, or ~/.cache/realm_jax; where that cannot be written to, a folder of temporary files."""
    named = os.environ.get("REALM_JAX_CACHE")
    return pathlib.Path(expand(named)) if named else _own_cache()


@functools.cache
def _own_cache() -> pathlib.Path:
    with contextlib.suppress(OSError, RuntimeError):  # a home folder that is read-only, or none at all
        folder = pathlib.Path("~/.cache/realm_jax").expanduser()
        folder.mkdir(parents=True, exist_ok=True)
        if os.access(folder, os.W_OK):
            return folder
    folder = pathlib.Path(tempfile.gettempdir()) / f"realm_jax-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid():  # its owner could put programs of their own there
        raise ConfigError(f"{folder}: belongs to another user, and there is no home folder: set REALM_JAX_CACHE=FOLDER")
    log.info(f"notice: no home folder to keep downloads in: {folder} (REALM_JAX_CACHE chooses)")
    return folder


def temporary_folder(root: pathlib.Path | None = None) -> tempfile.TemporaryDirectory:
    """A new folder on the disk of `root`, or of the cache: /tmp has less room. Removes those of killed processes."""
    parent = (root or cache_dir()) / UNFINISHED
    parent.mkdir(parents=True, exist_ok=True)
    for left in parent.iterdir():
        _remove_unless_held(left, parent)
    while True:
        temporary = tempfile.TemporaryDirectory(dir=parent, ignore_cleanup_errors=True)
        handle = _lock(pathlib.Path(temporary.name), fcntl.LOCK_SH)
        if handle is not None:  # else another process took it for one that was left
            weakref.finalize(temporary, os.close, handle)
            return temporary


def copy_of(name: str, fill: Callable[[pathlib.Path], None]) -> pathlib.Path:
    """The folder `name` of the cache, made if it is not there: `fill` writes its files into an empty folder."""
    return made_once(cache_dir(), name, fill)


def made_once(root: pathlib.Path, name: str, fill: Callable[[pathlib.Path], None]) -> pathlib.Path:
    """The folder `name` of another folder on a disk, in the same way. If two processes make it at once, one stays."""
    folder = root / name
    if folder.is_dir():
        return folder
    with temporary_folder(root) as temporary:
        made = pathlib.Path(temporary) / "files"
        made.mkdir()
        fill(made)
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.rename(made, folder)
        except OSError:
            if not folder.is_dir():  # no other process was faster
                raise
    return folder


class Held:
    """A copy that stays while this object lives: `folder`, of `copy_of`. Removes older neighbours that nobody holds."""

    def __init__(self, name: str, fill: Callable[[pathlib.Path], None]):
        handle = None
        while handle is None:  # again if it is removed before we hold it
            self.folder = copy_of(name, fill)
            handle = _lock(self.folder, fcntl.LOCK_SH)
        weakref.finalize(self, os.close, handle)
        made = self.folder.stat().st_mtime_ns
        for other in self.folder.parent.iterdir():
            with contextlib.suppress(FileNotFoundError):  # another process was faster
                if other.stat().st_mtime_ns < made:
                    _remove_unless_held(other, cache_dir() / UNFINISHED)


def _lock(folder: pathlib.Path, kind: int) -> int | None:
    """An open descriptor with a lock, which ends with it or its process; None if the folder is gone, or held.

    On a disk without locks every folder is held by all: nothing is removed.
    """
    try:
        handle = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, kind | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(handle), os.stat(folder)):
            return handle
    except (BlockingIOError, FileNotFoundError):
        pass
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise
        if kind == fcntl.LOCK_SH:
            return handle
    os.close(handle)
    return None


def _remove_unless_held(folder: pathlib.Path, unfinished: pathlib.Path) -> None:
    """Removes a folder of the same disk as `unfinished`, from where the next process removes what we leave."""
    handle = _lock(folder, fcntl.LOCK_EX)
    if handle is None:
        return
    gone = unfinished / f"{folder.name}-{os.getpid()}"
    gone.parent.mkdir(parents=True, exist_ok=True)
    os.rename(folder, gone)  # if we are killed in between, nobody takes the rest for a copy
    shutil.rmtree(gone)
    os.close(handle)
