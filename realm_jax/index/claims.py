"""Claims: small files that say which process uses a folder: the owner of a draft, the pins on what several use.

On its own host a claim holds while its process lives, a day at most; on any other host, while its time is recent.
"""

import contextlib
import os
import socket
import threading
import time

from etils import epath

from realm_jax import background
from realm_jax.config import ConfigError
from realm_jax.heartbeat import is_running, this_process
from realm_jax.workdir import read_json, write_json

MANIFEST = "manifest.json"
"""A folder that has this file is a version, one without is a draft."""

DAY_S = 86400.0
OWNER = "owner.json"
PINS = "pins"
OWNER_LIMIT_S = 600.0
RENEW_EVERY_S = 30.0


def claim(file: epath.Path, **facts) -> None:
    """Writes, or renews, this process's claim, with further plain values for readers."""
    write_json(file, {**facts, **this_process(), "time": time.time()})


class Renewed:
    """This process's claim in a file, which a thread renews until it is given up, whatever the process is busy with.

    Args:
        facts: as of `claim`, for the first time.
    """

    def __init__(self, file: epath.Path, **facts):
        self._file, self._facts = file, facts
        claim(file, **facts)
        self._given_up = threading.Event()
        self._thread = threading.Thread(target=self._stay, name="claim", daemon=True)
        self._thread.start()

    def _stay(self) -> None:
        while not self._given_up.wait(RENEW_EVERY_S):
            self.renew(**self._facts)

    def renew(self, **facts) -> None:
        """Renews the claim with other facts."""
        self._facts = facts
        with contextlib.suppress(ConfigError, OSError):
            if self._file.exists():  # else what was claimed is over, and its folder must not come back
                claim(self._file, **facts)

    def give_up(self) -> None:
        """Ends the claim."""
        self._given_up.set()
        background.join(self._thread, background.CLOSE_S)
        self._file.unlink(missing_ok=True)


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
