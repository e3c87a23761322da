"""Claims: small files that say which process uses a folder, for drafts (their owner) and versions (pins).

On its own host a claim holds while its process lives, a day at most; on any other host, as long as its time is young.
"""

import os
import socket
import time

from etils import epath

from realm_jax.workdir import read_json, write_json

DAY_S = 86400.0
OWNER = "owner.json"
PINS = "pins"
OWNER_LIMIT_S = 600.0


def claim(file: epath.Path) -> None:
    """Writes, or renews, this process's claim."""
    write_json(file, {"host": socket.gethostname(), "pid": os.getpid(), "time": time.time()})


def own_pin(version_folder: epath.Path) -> epath.Path:
    """The file of this process's pin on a version."""
    return version_folder / PINS / f"{socket.gethostname()}-{os.getpid()}.json"


def is_pinned(version_folder: epath.Path) -> bool:
    """Whether some process holds a pin on the version."""
    pins = version_folder / PINS
    return pins.exists() and any(_holds(pin, DAY_S) for pin in pins.iterdir() if pin.suffix == ".json")


def is_abandoned(draft_folder: epath.Path) -> bool:
    """Whether the owner of an unpublished folder died: its process is gone, or has given no sign for ten minutes."""
    owner = draft_folder / OWNER
    if owner.exists():
        return not _holds(owner, OWNER_LIMIT_S)
    # Made a moment ago, or what is left of a version that was being removed.
    return draft_folder.exists() and time.time() - draft_folder.stat().mtime > OWNER_LIMIT_S


def _holds(file: epath.Path, limit_s: float) -> bool:
    try:
        found = read_json(file)
    except FileNotFoundError:  # given up meanwhile
        return False
    age_s = time.time() - found["time"]
    if found["host"] == socket.gethostname():
        # A live process may be too busy for a sign (ScaNN's training); the day bounds what a reused pid can hold.
        return age_s < DAY_S and _is_running(found["pid"])
    return age_s < limit_s


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # it runs as another user
        return True
    return True
