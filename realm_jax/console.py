"""What people see while a command works: the log, and on a terminal live lines below it, which are overwritten.

The library logs (`logging`, logger `realm_jax`) and shows progress on a `Line`; `set_up` decides that people see both.
All goes to stdout, in order with what the command prints, so that `| tee run.log` keeps the whole of it; stderr has
errors and the warnings of other libraries. Where stdout is no terminal (CI, nohup, a pipe), a process prints progress
at most every `EVERY_S` seconds, and an event when it happens.
"""

import atexit
import logging
import os
import sys
import textwrap
import threading
import time
from collections.abc import Mapping
from typing import BinaryIO

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

WIDTH = 120  # columns
EVERY_S = 20.0
RELAYED_EVERY_S = 1.0
RELAYS = "REALM_JAX_RELAYS"  # set for a process whose live lines another process shows
BUILDER = "index builder: "  # stands before what the index builder prints
LOGGER = logging.getLogger("realm_jax")


def set_up(mark: str = "") -> None:
    """Shows the log on stdout, each line in `WIDTH` columns.

    Args:
        mark: stands before every line, to say which process it is from.
    """
    for handler in [handler for handler in LOGGER.handlers if isinstance(handler, _Handler)]:
        LOGGER.removeHandler(handler)
    LOGGER.addHandler(_Handler(mark))
    LOGGER.setLevel(logging.INFO)
    LOGGER.propagate = False  # where the root logger has a handler, as in Colab, each line would be seen twice
    _screen.mark = mark


def fitted(text: str, mark: str = "") -> str:
    """A message in lines of at most `WIDTH` columns, broken between words; a longer word, as a path, is kept whole."""
    lines = []
    for line in text.splitlines() or [""]:
        lines += textwrap.wrap(
            line,
            WIDTH,
            initial_indent=mark,
            subsequent_indent=f"{mark}    ",
            break_long_words=False,
            break_on_hyphens=False,
        )
    return "\n".join(lines)


def tally(counts: Mapping[str, int]) -> str:
    """The counts that are not zero, for a message: `spans beyond limit 12, titles too long 1`."""
    return ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in counts.items() if count) or "none"


def is_live() -> bool:
    """Whether live lines are shown: on a terminal that can overwrite a line."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


class Line:
    """One line that says how far a piece of work is; overwritten on a terminal, printed now and then elsewhere."""

    def __init__(self, what: str):
        self.what = what
        self._started = time.monotonic()
        self._task: TaskID | None = None

    def show(self, done: int, total: int | None, *facts: str) -> None:
        """Shows that `done` of `total` are finished, and further facts, the most important ones first."""
        of = f"{done:,}/{total:,}" if total else f"{done:,}"
        if is_live():
            self._task = _screen.draw(self._task, self.what, done, total, "  ".join([of, *facts]))
        elif os.environ.get(RELAYS):
            if _screen.is_due(self._started, RELAYED_EVERY_S):
                print("\r" + "\t".join([self.what, str(done), str(total or ""), *facts]), flush=True)
        elif _screen.is_due(self._started, EVERY_S):
            print(fitted(f"{self.what}: {'  '.join([of, *facts])}", _screen.mark), flush=True)

    def close(self) -> None:
        """Takes the line off the terminal."""
        if os.environ.get(RELAYS):
            print("\r", flush=True)
        self._task = _screen.drop(self._task)


class Relay(threading.Thread):
    """Shows what another process of ours prints: its log as it comes, its live lines as one of our own.

    Args:
        pipe: its stdout or stderr, in bytes.
        mark: stands before each line that has none.
        to: name of our own stream, `stdout` or `stderr`.
    """

    def __init__(self, pipe: BinaryIO, mark: str, to: str):
        super().__init__(daemon=True)
        self._pipe, self._mark, self._to, self._line = pipe, mark, to, None
        self.start()

    def run(self) -> None:
        """Shows lines until the other process ends, even if nobody reads ours: it must not wait for a full pipe."""
        with self._pipe:
            for raw in self._pipe:
                try:
                    self._show(raw.decode("utf-8", "backslashreplace").removesuffix("\n"))
                except OSError:
                    continue
        self._close()

    def _show(self, text: str) -> None:
        if not text.startswith("\r"):
            print(text if text.startswith(self._mark) else self._mark + text, file=getattr(sys, self._to), flush=True)
        elif text == "\r":
            self._close()
        else:
            what, done, total, *facts = text[1:].split("\t")
            self._line = self._line or Line(self._mark + what)
            self._line.what = self._mark + what
            self._line.show(int(done), int(total) if total else None, *facts)

    def _close(self) -> None:
        if self._line:
            self._line.close()


def close() -> None:
    """Takes all live lines off the terminal and gives its cursor back."""
    _screen.close()


class _Handler(logging.Handler):
    def __init__(self, mark: str):
        super().__init__()
        self._mark = mark

    def emit(self, record: logging.LogRecord) -> None:
        """Prints the record; errors of the stream are the command's, which ends (see `realm_jax.terminal`)."""
        kind = "warning: " if record.levelno >= logging.WARNING else ""
        print(fitted(kind + self.format(record), self._mark), flush=True)


class _Facts(ProgressColumn):
    """The text behind the bar. On a narrow terminal the end of this text is cut off, and the bar stays whole."""

    def render(self, task: Task) -> Text:
        return Text(task.fields["text"], no_wrap=True, overflow="ellipsis")


class _Screen:
    """The live lines of this process: rich's progress display, which is shown as long as there is a line."""

    def __init__(self):
        self.mark = ""
        self._bars: Progress | None = None
        self._printed = 0.0
        self._lock = threading.RLock()

    def draw(self, task: TaskID | None, what: str, done: int, total: int | None, text: str) -> TaskID:
        with self._lock:
            if self._bars is None:
                self._bars = Progress(
                    TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
                    BarColumn(bar_width=12, table_column=Column(no_wrap=True)),
                    _Facts(),
                    console=Console(file=sys.stdout),
                    transient=True,
                    redirect_stderr=sys.stderr.isatty(),
                )
                self._bars.start()
                atexit.register(self.close)
            if task is None or task not in self._bars.task_ids:
                return self._bars.add_task(what, completed=done, total=total, text=text)
            self._bars.update(task, description=what, completed=done, total=total, text=text)
            return task

    def drop(self, task: TaskID | None) -> None:
        with self._lock:
            if self._bars is not None and task in self._bars.task_ids:
                self._bars.remove_task(task)
                if not self._bars.task_ids:
                    self.close()

    def is_due(self, started: float, every_s: float) -> bool:
        """Whether a line may be printed again, for the first time `every_s` seconds after its work was `started`."""
        now = time.monotonic()
        if now - max(self._printed, started) < every_s:
            return False
        self._printed = now
        return True

    def close(self) -> None:
        with self._lock:
            if self._bars is not None:
                self._bars.stop()
                self._bars = None
                atexit.unregister(self.close)


_screen = _Screen()
