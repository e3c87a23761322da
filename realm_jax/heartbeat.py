"""Signs of life: one small file says which process works in a folder, whether it still runs, and if not, how it ended.

    W/heartbeat.json                  the whole run, with the part it is at
    W/<phase>/heartbeat.json          the trainer of a phase, with its number of steps
    W/index/heartbeat-HOST-PID.json   an index builder, of which there may be several

On its own host, a process counts as alive if one with its id and start time runs: neither a dead process nor a later
one under its id looks alive. On another host only the age of the last beat tells; a beat comes every `BEAT_S`.
"""

import contextlib
import os
import socket
import threading
import time
from typing import Literal

import psutil
from etils import epath

from realm_jax import background
from realm_jax.config import ConfigError
from realm_jax.workdir import read_json, write_json

FILE = "heartbeat.json"
BEAT_S = 15.0
SILENCE_S = 8 * BEAT_S
"""Without a beat for so long, a process on another host counts as lost."""

FORGOTTEN_S = 86400.0
"""After so long, the file of one of several processes is deleted by the next of them."""

SAME_START_S = 2.0
"""How far two readings of one process's start may lie apart: the host's own start is known to a second."""

State = Literal["runs", "ended", "died", "silent"]


class Heartbeat:
    """Beats for this process into a folder until it is closed. Errors of writing are ignored: training goes on.

    Args:
        of_many: several processes may work in the folder, each with a file of its own.
        facts: further plain values for readers: `role`, `steps`, …
    """

    def __init__(self, folder: epath.Path, *, of_many: bool = False, **facts):
        self._file = folder / (f"heartbeat-{socket.gethostname()}-{os.getpid()}.json" if of_many else FILE)
        if of_many:
            _forget_the_dead(folder)
        self._facts = {**this_process(), **facts}
        self._beat()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._keep_beating, name="heartbeat", daemon=True)
        self._thread.start()

    def tell(self, **facts) -> None:
        """Changes facts at once."""
        self._facts = {**self._facts, **facts}
        self._beat()

    def close(self) -> None:
        """Records that this process ended its work in order."""
        self._closed.set()
        background.join(self._thread, background.CLOSE_S)
        self.tell(ended=time.time())

    def __enter__(self) -> "Heartbeat":
        return self

    def __exit__(self, *exception) -> None:
        self.close()

    def _keep_beating(self) -> None:
        while not self._closed.wait(BEAT_S):
            self._beat()

    def _beat(self) -> None:
        with contextlib.suppress(ConfigError, OSError):  # a full disk: whoever needs the space will say so
            write_json(self._file, {**self._facts, "time": time.time()})


def this_process() -> dict:
    """`host`, `pid` and `started` of the calling process."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "started": process_start(os.getpid())}


def process_start(pid: int) -> float:
    """When a process of this host started, in seconds since the host did: setting the clock does not change it.

    Raises:
        psutil.Error: there is no such process, or this user may not ask for it.
    """
    return round(psutil.Process(pid).create_time() - psutil.boot_time(), 2)


def is_running(pid: int, started: int | float | None = None) -> bool:
    """Whether a process of this host runs; with `started`, that very process and not a later one under its id."""
    try:
        if psutil.Process(pid).status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):  # nobody has waited for it
            return False
        return started is None or abs(process_start(pid) - started) <= SAME_START_S
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:  # it runs as another user
        return True


def read(folder: epath.Path) -> dict | None:
    """What the last process to beat in a folder said of itself, with its `state` and the beat's `age_s`; None if none.

    Raises:
        ConfigError: the file is damaged.
    """
    return _read(folder / FILE)


def read_all(folder: epath.Path) -> list[dict]:
    """The same of every process that has a file in a folder. Raises ConfigError if one is damaged."""
    files = sorted(folder.glob("heartbeat*.json")) if folder.exists() else []
    return [found for file in files if (found := _read(file))]


def _read(file: epath.Path) -> dict | None:
    try:
        found = read_json(file)
        age_s = max(0.0, time.time() - found["time"])
        return {**found, "state": _state(found, age_s), "age_s": age_s}
    except FileNotFoundError:
        return None
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{file} is damaged (no {error}): delete it") from error


def _forget_the_dead(folder: epath.Path) -> None:
    with contextlib.suppress(ConfigError, OSError):
        for file in folder.glob("heartbeat-*.json"):
            found = _read(file)
            if found and (found["state"] in ("ended", "died") or found["age_s"] > FORGOTTEN_S):
                file.unlink(missing_ok=True)


def _state(found: dict, age_s: float) -> State:
    if found.get("ended"):
        return "ended"
    if found["host"] == socket.gethostname():
        return "runs" if is_running(found["pid"], found.get("started")) else "died"
    return "runs" if age_s < SILENCE_S else "silent"
