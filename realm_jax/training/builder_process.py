"""The index builder as a process of its own beside a trainer, which it does not outlive."""

import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable

from realm_jax import console, processes, signals
from realm_jax.workdir import Workdir

log = logging.getLogger(__name__)

RESTARTS = 3  # of builders that died young
YOUNG_S = 600.0
STOP_TIMEOUT_S = 30.0
RELAY_TIMEOUT_S = 5.0


class BuilderProcess:
    """A `realm builder` beside this process, which starts it again if it dies before its work is done.

    This process shows what it prints, marked as the builder's: two processes cannot both overwrite a terminal's lines.

    Args:
        options: further flags.
        started: called with the id of every process that is started.
    """

    def __init__(self, workdir: Workdir, *options: str, started: Callable[[int], None] = lambda pid: None):
        self._workdir, self._options, self._started = workdir, options, started
        self._changing, self._is_stopped = threading.Lock(), False
        self._process = self._start()
        self._keeper = threading.Thread(target=self._keep, name="the index builder", daemon=True)
        self._keeper.start()

    def _start(self) -> subprocess.Popen:
        command = [sys.executable, "-m", "realm_jax", "builder", f"--workdir={self._workdir.path}", *self._options]
        environment = {name: value for name, value in os.environ.items() if name != processes.VARIABLE}
        environment |= {signals.HELD: "1", "PYTHONIOENCODING": "utf-8:backslashreplace"}
        if console.is_live():
            environment[console.RELAYS] = "1"
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, env=environment, stdin=pipe, stdout=pipe, stderr=pipe)
        self._relays = [console.Relay(getattr(process, to), console.BUILDER, to) for to in ("stdout", "stderr")]
        self._started(process.pid)
        return process

    def _keep(self) -> None:
        """Starts a builder that died again, a few times; not one that a signal to both has ended."""
        died_young = 0
        while True:
            started = time.monotonic()
            status = self._process.wait()
            self._process.stdin.close()
            died_young = died_young + 1 if time.monotonic() - started < YOUNG_S else 0
            with self._changing:
                if status == 0 or self._is_stopped or signals.flagged:
                    return
                log.warning(f"the index builder ended with status {status}")
                if died_young > RESTARTS:
                    return
                self._process = self._start()

    def finish(self) -> None:
        """Waits until the last weights are indexed, or no builder is left."""
        self._keeper.join(timeout=self._workdir.config.index.wait_timeout_s)
        if self._keeper.is_alive():
            log.warning("the index builder did not finish in time; its last version stays")
        self._wait_for_relays()

    def stop(self) -> None:
        """Ends the process if it still runs."""
        with self._changing:
            self._is_stopped = True
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout=STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(timeout=STOP_TIMEOUT_S)
        self._wait_for_relays()

    def _wait_for_relays(self) -> None:
        """Waits until its last lines are shown."""
        for relay in self._relays:
            relay.join(timeout=RELAY_TIMEOUT_S)
