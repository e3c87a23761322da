"""Progress of long work on the console: what is done, how fast, and how long the rest takes."""

import sys
import time


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss or m:ss."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


class Progress:
    """A line on stderr every few seconds for long work outside training: done, rate, time left."""

    def __init__(self, what: str, every_s: float = 5.0):
        self._what, self._every_s = what, every_s
        self._started = self._printed = time.monotonic()

    def __call__(self, done: int, total: int | None) -> None:
        """Reports that `done` of `total` items are finished; `total` may be unknown."""
        now = time.monotonic()
        if done == total or now - self._printed >= self._every_s:
            self._printed = now
            rate = done / max(now - self._started, 1e-9)
            eta = clock((total - done) / rate) if total and rate else "unknown"
            left = f" of {total}, ETA {eta}" if total else ""
            print(f"{self._what}: {done}{left} ({rate:,.0f}/s)", file=sys.stderr, flush=True)
