"""The trainers and builders of a rehearsal: started, watched, killed and started again."""

import os
import pathlib
import re
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from anonymous import memory_of

from realm_jax.index.shared_work import JOIN, SharedWork
from realm_jax.index.store import IndexStore
from realm_jax.processes import VARIABLE
from realm_jax.workdir import Workdir

DEVICES, BUILDERS = 2, 2  # fake devices of each trainer; builders
DEADLINE_S = 1200.0
POLL_S, SAMPLE_S = 0.2, 1.0
T = TypeVar("T")
BUILDER = pathlib.Path(__file__).with_name("drawn_builder.py")


class Processes:
    """Trainers that train together and two builders, in one workdir; as a context manager nobody outlives it."""

    def __init__(self, workdir: Workdir, logs: pathlib.Path, trainers: int):
        self._workdir, self._logs, self._count = workdir, logs, trainers
        logs.mkdir()
        self.trainers: list[subprocess.Popen] = []
        self.builders: list[subprocess.Popen] = []
        self._samples: dict[int, list[dict[str, int]]] = {}
        self._done = threading.Event()

    def __enter__(self) -> "Processes":
        for _ in range(BUILDERS):
            self._start_builder()
        self.start_trainers()
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self._sampler.start()
        return self

    def __exit__(self, *exception) -> None:
        self._done.set()
        for process in (*self.trainers, *self.builders):
            if process.poll() is None:
                process.kill()
            process.wait()
        self._sampler.join()

    def start_trainers(self) -> None:
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        command = ["-m", "realm_jax", "pretrain", f"--workdir={self._workdir.path}"]
        joined = [{VARIABLE: f"localhost:{port},{self._count},{i}"} for i in range(self._count)]
        devices = {"JAX_NUM_CPU_DEVICES": str(DEVICES)}
        self.trainers = [self._start("trainer", command, **devices, **variables) for variables in joined]

    def _start_builder(self) -> None:
        self.builders.append(self._start("builder", [str(BUILDER), f"--workdir={self._workdir.path}"]))

    def _start(self, name: str, command: list[str], **variables: str) -> subprocess.Popen:
        log = self._logs / f"{name}-{len(list(self._logs.iterdir())):02}.log"
        with log.open("w") as out:
            environment = {**os.environ, **variables}
            return subprocess.Popen([sys.executable, *command], env=environment, stdout=out, stderr=subprocess.STDOUT)

    def wait_until(self, what: str, condition: Callable[[], T]) -> T:
        """Polls until the condition holds, and returns its value; all processes have to run meanwhile.

        Raises:
            RuntimeError: one of them ended, or the deadline passed; with what they said last.
        """
        started = time.monotonic()
        while not (value := condition()):
            ended = any(process.poll() is not None for process in (*self.trainers, *self.builders))
            if ended or time.monotonic() > started + DEADLINE_S:
                raise RuntimeError(f"{'a process ended' if ended else 'too late'} before {what}:\n{self._said()}")
            time.sleep(POLL_S)
        print(f"{what}: after {time.monotonic() - started:.0f} s", flush=True)
        return value

    def joining(self, store: IndexStore) -> int:
        """The id of the builder that joins a version; 0 if none does."""
        holders = [SharedWork(folder).holder(JOIN) for folder in store.works()]
        return next((holder.pid for holder in holders if holder), 0)

    def kill_builder(self, pid: int) -> None:
        """Kills it without a warning, and starts another one."""
        (killed,) = [process for process in self.builders if process.pid == pid]
        self._kill(killed)
        self.builders.remove(killed)
        self._start_builder()

    def kill_trainer(self) -> int:
        """Kills the last one, and returns the seconds until the others have noticed and ended."""
        self._kill(self.trainers[-1])
        started = time.monotonic()
        for process in self.trainers[:-1]:
            if process.wait(timeout=DEADLINE_S) == 0:
                raise RuntimeError(f"a trainer ended well without another:\n{self._said()}")
        return round(time.monotonic() - started)

    def _kill(self, process: subprocess.Popen) -> None:
        process.send_signal(signal.SIGKILL)
        process.wait()

    def stop(self) -> None:
        """Asks the trainers to save their state and end; the builders are no longer needed."""
        self.trainers[0].send_signal(signal.SIGTERM)
        for process in self.trainers:
            if process.wait(timeout=DEADLINE_S) != 128 + signal.SIGTERM:
                raise RuntimeError(f"a trainer that was stopped failed:\n{self._said()}")

    def resumed_from(self) -> int:
        """The step that the trainers went on from."""
        said = "".join(log.read_text() for log in self._logs.glob("trainer-*.log"))
        return int(re.findall(r"resuming from step ([\d,]+)", said)[-1].replace(",", ""))

    def memory(self) -> dict[str, float]:
        """Medians over the trainers: anonymous memory at its peak, and resident pages of mapped files at the end."""
        of_all = [self._samples[process.pid] for process in self.trainers]
        peaks = [max(sample["Anonymous"] for sample in samples) for samples in of_all]
        mapped = [samples[-1]["Rss"] - samples[-1]["Anonymous"] for samples in of_all]
        return {
            "anonymous MB of a trainer": round(statistics.median(peaks) / 1e6, 1),
            "mapped MB of a trainer": round(statistics.median(mapped) / 1e6, 1),
        }

    def _sample(self) -> None:
        while not self._done.wait(SAMPLE_S):
            for process in self.trainers:
                try:
                    self._samples.setdefault(process.pid, []).append(memory_of(process.pid))
                except (OSError, ValueError, KeyError):  # it has just ended
                    continue

    def _said(self) -> str:
        return "\n".join(f"--- {log.name}\n{log.read_text()[-1500:]}" for log in sorted(self._logs.glob("*.log")))
