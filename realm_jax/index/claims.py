"""Claims: small files that say which process uses a folder: the owner of a draft, the pins on what several use.

On its own host a claim holds while its process lives, a day at most; on any other host, while its time is recent.
"""

import os
import socket
import time

from etils import epath

from realm_jax.heartbeat import is_running, this_process
from realm_jax.workdir import read_json, write_json

MANIFEST = "manifest.json"
"""A folder that has this file is a version, one without is a draft."""

DAY_S = 86400.0
OWNER = "owner.json"
PINS = "pins"
OWNER_LIMIT_S = 600.0


def claim(file: epath.Path, **facts) -> None:
    """Writes, or renews, this process's claim, with further plain values for readers."""
    write_json(file, {**facts, **this_process(), "time": time.time()})


def own_pin(folder: epath.Path) -> epath.Path:
    """The file of this process's pin on a folder."""
    return folder / PINS / f"{socket.gethostname()}-{os.getpid()}.json"


def is_pinned(folder: epath.Path) -> bool:
    """Whether some process holds a pin on the folder."""
    return bool(holders(folder))


def holders(folder: epath.Path, limit_s: float = DAY_S) -> list[dict]:
    """The pins on a folder whose processes still count: `host`, `pid`, `time` and facts of each.

    Args:
        limit_s: how long other hosts believe a pin.
    """
    return [claimed for pin in sorted((folder / PINS).glob("*.json")) if (claimed := _held(pin, limit_s))]


def drop_lapsed_pins(folder: epath.Path) -> None:
    """Removes what dead processes left."""
    for pin in (folder / PINS).glob("*.json"):
        if _held(pin, DAY_S) is None:
            pin.unlink(missing_ok=True)


def is_abandoned(draft_folder: epath.Path) -> bool:
    """Whether the owner of an unpublished folder died: its process is gone, or has given no sign for ten minutes."""
    owner = draft_folder / OWNER
    if owner.exists():
        return _held(owner, OWNER_LIMIT_S) is None
    # Made a moment ago, or what is left of a version that was being removed.
    return draft_folder.exists() and time.time() - draft_folder.stat().mtime > OWNER_LIMIT_S


def _held(file: epath.Path, limit_s: float) -> dict | None:
    """The claim in a file; None if it has lapsed."""
    try:
        found = read_json(file)
    except FileNotFoundError:  # given up meanwhile
        return None
    age_s = time.time() - found["time"]
    if found["host"] == socket.gethostname():
        # A live process may be too busy to renew it (ScaNN's training), and may never give it up: hence a day.
        holds = age_s < DAY_S and is_running(found["pid"], found.get("started"))
    else:
        holds = age_s < limit_s
    return found if holds else None
