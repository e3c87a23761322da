"""Seconds of work on an accelerator, which runs behind the host: calls are sent off together and waited for."""

import math
import statistics
import time
from collections.abc import Callable

import jax

REPEATS = 3
MOST_CALLS = 50


def median_seconds(run: Callable, *arguments, least_s: float = 0.2) -> float:
    """Seconds of a call: the median of three repeats, each of as many calls as take `least_s`.

    The first call, which compiles, and the second one, which says how long a call takes, do not count.
    """
    jax.block_until_ready(run(*arguments))
    one = _seconds(run, arguments, 1)
    calls = min(MOST_CALLS, max(1, math.ceil(least_s / one)))
    return statistics.median(_seconds(run, arguments, calls) for _ in range(REPEATS))


def _seconds(run: Callable, arguments: tuple, calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        done = run(*arguments)
    jax.block_until_ready(done)
    return (time.perf_counter() - start) / calls
