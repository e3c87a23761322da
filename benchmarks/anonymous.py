"""Anonymous memory of a process: file pages of memory maps, which the kernel may drop at any time, are not in it.

Linux only: `Anonymous` of /proc/PID/smaps_rollup.
"""

import contextlib
import threading
from collections.abc import Iterator

SAMPLE_S = 0.02


def anonymous_bytes(process: int | str = "self") -> int:
    return memory_of(process)["Anonymous"]


def memory_of(process: int | str = "self") -> dict[str, int]:
    """Bytes by the names of smaps_rollup: Rss, Pss, Anonymous and others."""
    with open(f"/proc/{process}/smaps_rollup") as file:
        rows = [line.split() for line in file if line.endswith("kB\n")]
    return {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows}


@contextlib.contextmanager
def peak_anonymous() -> Iterator[list[int]]:
    """The largest anonymous memory of this process, sampled by a thread, in a list of one."""
    peak, done = [0], threading.Event()

    def sample() -> None:
        while not done.wait(SAMPLE_S):
            peak[0] = max(peak[0], anonymous_bytes())

    thread = threading.Thread(target=sample)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()
