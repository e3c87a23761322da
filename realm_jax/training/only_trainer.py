"""Keeps a second trainer out of a folder: by a lock of the file system, or in a bucket by a claim that is renewed."""

import contextlib
import os
import sys
import threading
from collections.abc import Iterator

from etils import epath

from realm_jax import background, lock, processes
from realm_jax.buckets import is_remote
from realm_jax.config import ConfigError
from realm_jax.index.claims import RENEW_EVERY_S
from realm_jax.index.shared_work import JOIN, SharedWork

CLAIMS = "trainer"


@contextlib.contextmanager
def only_trainer(file: epath.Path) -> Iterator[None]:
    """Joins the other processes, of which the first keeps other trainers out of the folder that `file` is in.

    Args:
        file: the lock. A folder of that name holds the claim in a bucket.

    Raises:
        ConfigError: another process trains there; says which, and what to do.
    """
    processes.join()
    busy = f"{file.parent} is being trained"
    if not processes.is_first():
        yield
    elif is_remote(file):
        with _claimed(file, busy):
            yield
    else:
        with lock.only_one(file, busy):
            yield


@contextlib.contextmanager
def _claimed(folder: epath.Path, busy: str) -> Iterator[None]:
    """A claim on a folder of a bucket; that of a process which gives no sign for ten minutes is taken over."""
    with SharedWork(folder) as work:
        if not work.take(JOIN):
            holder = work.holder(JOIN)
            who = f"process {holder.pid} on {holder.host}" if holder else "another process"
            raise ConfigError(f"{busy} by {who}: wait for it, or end it; if its host is lost, try again in ten minutes")
        done = threading.Event()
        watcher = threading.Thread(target=_watch, args=(work, done), name="claim", daemon=True)
        watcher.start()
        try:
            yield
        finally:
            done.set()
            background.join(watcher, background.CLOSE_S)


def _watch(work: SharedWork, done: threading.Event) -> None:
    """Ends this process if it stood still for so long that another one took over: both would write the same files."""
    while not done.wait(RENEW_EVERY_S):
        with contextlib.suppress(OSError, ConfigError):  # a bucket that cannot be reached now
            if not work.is_mine(JOIN):
                print(f"error: {work.folder}: another process took over while this one stood still", file=sys.stderr)
                os._exit(1)
