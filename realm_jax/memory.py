"""Peak memory of a few processes, as the proportional set size that Linux reports (shared pages count once in all)."""

import threading

import psutil

from realm_jax import background

SAMPLE_S = 2.0


class PeakMemory:
    """Samples processes from a thread; only Linux knows the proportional size: elsewhere nothing is reported."""

    def __init__(self):
        self._processes: dict[str, int] = {}
        self._peaks: dict[str, int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory", daemon=True)
        self._thread.start()

    def watch(self, name: str, pid: int) -> None:
        """Adds a process, or replaces the one of that name."""
        self._processes = {**self._processes, name: pid}

    def close(self) -> dict[str, float]:
        """Stops; returns peak MiB by name, and `together`: the largest sum at one moment."""
        self._stop.set()
        background.join(self._thread, background.CLOSE_S)
        return {name: round(peak / 2**20, 1) for name, peak in self._peaks.items()}

    def _run(self) -> None:
        while not self._stop.wait(SAMPLE_S):
            now = {name: _pss(pid) for name, pid in self._processes.items()}
            now["together"] = sum(now.values())
            for name, size in now.items():
                if size:
                    self._peaks[name] = max(size, self._peaks.get(name, 0))


def _pss(pid: int) -> int:
    """Bytes; 0 where the process has ended, or the system does not say."""
    try:
        return getattr(psutil.Process(pid).memory_full_info(), "pss", 0)
    except psutil.Error:
        return 0
