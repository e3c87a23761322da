"""Progress of long work outside of training: what is done, how fast, and how long the rest takes."""

import time

from realm_jax.console import Line


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss or m:ss."""
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


class Progress:
    """A line for long work. It is taken away when all is done, or after a `with` block if the total is unknown.

    Args:
        what: names the work and what is counted, such as `index of step 800, blocks`.
    """

    def __init__(self, what: str):
        self._line, self._started = Line(what), time.monotonic()

    def __call__(self, done: int, total: int | None) -> None:
        """Shows that `done` of `total` items are finished; `total` may be unknown."""
        rate = done / max(time.monotonic() - self._started, 1e-9)
        left = [f"{clock((total - done) / rate)} left"] if total and rate else []
        self._line.show(done, total, f"{rate:,.0f}/s", *left)
        if done == total:
            self._line.close()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception) -> None:
        self._line.close()
