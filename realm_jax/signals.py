"""SIGTERM and SIGINT end a command within seconds, with one line and the status that shells give them, never with 0.

The first signal raises `Ended` where the main thread is; training alone takes it as a flag and saves its state first
(`training.loop`). A main thread that is inside a compiler or a search cannot be reached: a second thread, which the
system wakes, ends the process then, unless there are steps to save. A second signal ends it at once.
"""

import contextlib
import functools
import logging
import os
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from typing import Any

HANDLED = (signal.SIGTERM, signal.SIGINT)
GRACE_S, POLL_S = 3.0, 0.05
HELD = "REALM_JAX_HELD"
"""Set for a process whose standard input its parent holds open, writing nothing."""
has_unsaved = False
"""Whether training has steps that no checkpoint has yet: then the process is left to save them."""
flagged = 0
"""Number of the signal that training was sent and has yet to act on."""


class Ended(SystemExit):
    """A signal ends the process; the status is the shell's for that signal."""

    def __init__(self, number: int):
        super().__init__(status(number))
        self.number = number


class Stopped(RuntimeError):
    """A signal asked training to stop; the state was saved first. `status` is the shell's for that signal."""

    def __init__(self, message: str, number: int):
        super().__init__(message)
        self.status = status(number)


def status(number: int) -> int:
    """What a shell says of a process that a signal ended."""
    return 128 + number


@contextlib.contextmanager
def ending() -> Iterator[None]:
    """Handles the signals while a command runs."""
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    for number in HANDLED:
        signal.signal(number, _raise)
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    os.register_at_fork(after_in_child=_leave_to_the_system)
    threading.Thread(target=_watch, args=(reader,), daemon=True).start()
    try:
        yield
    except Ended as ended:
        _say(ended.code)
        raise


def end_with_parent() -> None:
    """Ends this process, as SIGTERM does, when the parent that holds its standard input ends, however it does."""

    def wait() -> None:
        os.read(sys.stdin.fileno(), 1)
        os.kill(os.getpid(), signal.SIGTERM)

    if os.environ.pop(HELD, None):
        threading.Thread(target=wait, name="the parent", daemon=True).start()


def check() -> None:
    """Raises Ended if training was sent a signal: for the main thread where it waits between steps."""
    if flagged:
        raise Ended(flagged)


def _raise(number: int, frame: Any) -> None:
    del frame
    signal.signal(number, signal.SIG_DFL)
    _hush()
    raise Ended(number)


def _hush() -> None:
    """Silences what is broken off anywhere: objects half made, tasks, and threads whose work nobody takes any more."""
    warnings.simplefilter("ignore")
    logging.getLogger("asyncio").disabled = True
    sys.unraisablehook = threading.excepthook = lambda complaint: None


def _leave_to_the_system() -> None:
    """In a forked process: its signals are not its parent's."""
    signal.set_wakeup_fd(-1)
    for number in HANDLED:
        signal.signal(number, signal.SIG_DFL)


def _watch(reader: socket.socket) -> None:
    """Waits for signals; the system writes their numbers, whatever the main thread does."""
    seen = False
    while number := reader.recv(1):
        if number[0] in HANDLED and seen:
            os._exit(status(number[0]))
        elif number[0] in HANDLED:
            seen = True
            threading.Thread(target=_end, args=(number[0],), daemon=True).start()


def _end(number: int) -> None:
    """Ends the process once it had GRACE_S with nothing left to save."""
    until = time.monotonic() + GRACE_S
    while time.monotonic() < until:
        time.sleep(POLL_S)
        if has_unsaved:
            until = time.monotonic() + GRACE_S
    _say(status(number))
    os._exit(status(number))


@functools.cache  # once, by whichever thread comes first
def _say(code: int) -> None:
    name = signal.Signals(code - status(0)).name
    with contextlib.suppress(OSError):
        os.write(sys.stderr.fileno(), f"stopped by {name}: the same command goes on where it was\n".encode())
