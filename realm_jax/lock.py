"""A lock that one process holds at a time, and that is released when the process ends, however it ends.

The file system locks a file (flock), which stays and says who holds it. Buckets and some network disks have no locks:
there no process is kept out.
"""

import contextlib
import errno
import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator

from etils import epath

from realm_jax.buckets import is_remote
from realm_jax.config import ConfigError

PATIENCE_S = 0.5
WITHOUT_LOCKS = (errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)


@contextlib.contextmanager
def only_one(file: os.PathLike, busy: str) -> Iterator[None]:
    """Keeps other processes out while the block runs.

    Args:
        file: the lock; its folder is made.
        busy: what another process does there, for the error: "W is being trained".

    Raises:
        ConfigError: another process is at work; says which, and what to do.
    """
    if is_remote(file):
        yield
        return
    os.makedirs(os.path.dirname(os.fspath(file)) or ".", exist_ok=True)
    with _opened(file, os.O_RDWR | os.O_CREAT) as descriptor:
        deadline = time.monotonic() + PATIENCE_S
        while not (is_ours := _lock(descriptor)) and time.monotonic() < deadline:
            time.sleep(PATIENCE_S / 10)  # another process's `is_held` takes it for a moment
        if not is_ours:
            raise ConfigError(f"{busy} by another process{_holder(file)}")
        holder = json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()})
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, holder.encode(), 0)
        yield


def is_held(file: os.PathLike) -> bool:
    """Whether some process holds the lock now."""
    if is_remote(file) or not os.path.exists(file):
        return False
    with _opened(file, os.O_RDWR) as descriptor:
        return not _lock(descriptor)


@contextlib.contextmanager
def _opened(file: os.PathLike, flags: int) -> Iterator[int]:
    descriptor = os.open(file, flags, 0o666)
    try:
        yield descriptor
    finally:
        os.close(descriptor)  # and with it the lock


def _lock(descriptor: int) -> bool:
    """Takes the lock unless another has it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in WITHOUT_LOCKS:
            raise
    return True


def _holder(file: os.PathLike) -> str:
    """Who holds the lock, and what to do: the rest of a sentence."""
    try:
        found = json.loads(epath.Path(file).read_text(encoding="utf-8"))
        since = time.strftime("%Y-%m-%d %H:%M", time.localtime(found["since"]))
        who, how = f" ({found['pid']} on {found['host']}, since {since})", f"kill {found['pid']} on {found['host']}"
    except (OSError, ValueError, KeyError, TypeError):  # it is just being written
        who, how = "", "end it"
    return f"{who}: wait for it, or {how}; if that host is lost, delete {file}"
