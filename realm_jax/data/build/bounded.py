"""`wikitext.prose` with a time limit: in a child process that is killed, and started again, if a page takes too long.

The parser's C code cannot be interrupted by a signal handler, so the kernel kills the child at its limit of CPU seconds
(not of the clock, so that other work on the machine does not matter). One child serves a process until its end, and
ends by itself when the process is gone, since its input ends then.
"""

import atexit
import os
import pickle
import resource
import signal
import subprocess
import sys
import threading

from realm_jax.data.build import wikitext

LIMIT_S = 30
"""CPU seconds for a page: most take milliseconds, 2 MiB of nothing but templates, as long as MediaWiki saves it, 18."""
TOO_LONG = f"longer than {LIMIT_S} s to parse"
CRASHED = "crashed the parser"
END_TIMEOUT_S = 2 * LIMIT_S
_COMMAND = "from realm_jax.data.build import bounded; bounded.serve({limit_s})"


class BoundedProse:
    """Calls `wikitext.prose` in a child process.

    Args:
        limit_s: CPU seconds for a page, at least 1.
    """

    def __init__(self, limit_s: int):
        self._limit_s = limit_s
        self._lock = threading.Lock()
        self._child: subprocess.Popen | None = None
        self._owner = 0

    def __call__(self, text: str, hidden: list[str]) -> tuple[str, str, dict[str, int]]:
        """Calls `wikitext.prose`; further reasons are TOO_LONG and CRASHED. Raises RuntimeError if no child starts."""
        with self._lock:
            is_own = self._child is not None and self._owner == os.getpid()  # not that of a process that forked
            if is_own and self._child.poll() is not None:
                self._end()
            if self._child is None or not is_own:
                self._start()
            try:
                pickle.dump((text, hidden), self._child.stdin)
                self._child.stdin.flush()
                return pickle.load(self._child.stdout)
            except (EOFError, BrokenPipeError, pickle.UnpicklingError):  # it is dead
                status = self._end()
                return "", TOO_LONG if status == -signal.SIGXCPU else CRASHED, {}

    def close(self) -> None:
        """Ends the child, if there is one."""
        with self._lock:
            if self._child is not None and self._owner == os.getpid():
                self._end()

    def _start(self) -> None:
        command = [sys.executable, "-P", "-c", _COMMAND.format(limit_s=self._limit_s)]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(folder or os.getcwd() for folder in sys.path)}
        pipe = subprocess.PIPE
        self._child = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment)
        self._owner = os.getpid()
        if self._child.stdout.read(1) != b"+":
            raise RuntimeError(f"the process that parses pages did not start (status {self._end()})")

    def _end(self) -> int:
        """Ends the child and returns its exit status."""
        child, self._child = self._child, None
        try:
            child.stdin.close()
        except BrokenPipeError:  # what was not yet written
            pass
        child.stdout.close()
        try:
            return child.wait(timeout=END_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            child.kill()
            return child.wait(timeout=END_TIMEOUT_S)


def serve(limit_s: int) -> None:
    """Runs in the child: answers each (text, hidden) on its input until that ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent reacts to Ctrl-C
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever prints does not disturb the answers
    resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    sink.write(b"+")
    while True:
        sink.flush()
        try:
            text, hidden = pickle.load(source)
        except EOFError:
            return
        used = resource.getrusage(resource.RUSAGE_SELF)
        limit = int(used.ru_utime + used.ru_stime) + limit_s + 1
        resource.setrlimit(resource.RLIMIT_CPU, (limit if most == resource.RLIM_INFINITY else min(limit, most), most))
        pickle.dump(wikitext.prose(text, hidden), sink)


prose = BoundedProse(LIMIT_S)
atexit.register(prose.close)
