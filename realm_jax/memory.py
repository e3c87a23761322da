"""Peak memory of a few processes, as the proportional set size that Linux reports (shared pages count once in all)."""

import pathlib
import threading

SAMPLE_S = 2.0


class PeakMemory:
    """Samples processes from a thread; on systems without /proc it knows nothing and reports nothing."""

    def __init__(self):
        self._processes: dict[str, int] = {}
        self._peaks: dict[str, int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def watch(self, name: str, pid: int) -> None:
        """Adds a process, or replaces the one of that name."""
        self._processes = {**self._processes, name: pid}

    def close(self) -> dict[str, float]:
        """Stops; returns peak MiB by name, and `together`: the largest sum at one moment."""
        self._stop.set()
        self._thread.join()
        return {name: round(peak / 1024, 1) for name, peak in self._peaks.items()}

    def _run(self) -> None:
        while not self._stop.wait(SAMPLE_S):
            now = {name: _pss_kib(pid) for name, pid in self._processes.items()}
            now["together"] = sum(now.values())
            for name, size in now.items():
                if size:
                    self._peaks[name] = max(size, self._peaks.get(name, 0))


def _pss_kib(pid: int) -> int:
    try:
        lines = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()
    except OSError:  # the process has ended, or there is no /proc
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)
