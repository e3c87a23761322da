"""Work on threads of its own, for which nobody waits longer than is said.

The threads of the standard library's pools are joined when the interpreter ends, however long they take: a search that
hangs would keep a command that has failed alive for ever.
"""

import contextlib
import logging
import os
import queue
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Late
from typing import Any

from realm_jax.config import RunError

log = logging.getLogger(__name__)

CLOSE_S = 10.0
"""How long a closing waits for what is under way."""
_abandoned: list[threading.Thread] = []


class Background:
    """Threads that take calls in their order.

    Args:
        what: what they make, for the error: "retrieval".
        timeout_s: deadline of each result, from when it is waited for.
    """

    def __init__(self, what: str, timeout_s: float, threads: int = 1):
        self._what, self._timeout_s = what, timeout_s
        self._calls: queue.SimpleQueue = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._work, name=what, daemon=True) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    def submit(self, function: Callable, *arguments: Any) -> Future:
        """Asks for a call."""
        future: Future = Future()
        self._calls.put((future, function, arguments))
        return future

    def result(self, future: Future) -> Any:
        """Waits for a call's result. Raises RunError past the deadline, and what the call raised."""
        try:
            return future.result(timeout=self._timeout_s)
        except Late as late:
            if future.done():  # it is the call's own
                raise
            raise RunError(f"{self._what} took over {self._timeout_s:.0f} s") from late

    def close(self) -> None:
        """Drops the calls that wait, and leaves a thread behind that does not end in time."""
        with contextlib.suppress(queue.Empty):
            while True:
                self._calls.get_nowait()[0].cancel()
        for _ in self._threads:
            self._calls.put(None)
        for thread in self._threads:
            join(thread, CLOSE_S)

    def _work(self) -> None:
        while call := self._calls.get():
            _answer(*call)
            del call  # else a thread without work would keep an index in memory that nobody uses any more


def _answer(future: Future, function: Callable, arguments: tuple) -> None:
    try:
        future.set_result(function(*arguments))
    except BaseException as error:  # whoever waits for the result raises it
        future.set_exception(error)


def join(thread: threading.Thread, timeout_s: float) -> None:
    """Waits for a daemon thread that was asked to end, and leaves it behind if it does not."""
    thread.join(timeout=timeout_s)
    if thread.is_alive():
        log.warning(f"left behind, since it does not end: {thread.name}")
        _abandoned.append(thread)


@contextlib.contextmanager
def ending() -> Iterator[None]:
    """Ends the process at once where a thread was left behind: the interpreter's own end could meet it half-way."""
    try:
        yield
    except BaseException as error:
        _end(error)
        raise
    _end(None)


def _end(error: BaseException | None) -> None:
    if not any(thread.is_alive() for thread in _abandoned):
        return
    status = error.code if isinstance(error, SystemExit) else error and 1
    if error and not isinstance(error, SystemExit):
        sys.excepthook(type(error), error, error.__traceback__)
    elif isinstance(status, str):
        print(status, file=sys.stderr)
        status = 1
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(status or 0)
