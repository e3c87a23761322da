"""What a benchmark compares with, as a process in a Python environment of its own, that works only when asked."""

import contextlib
import os
import subprocess
from pathlib import Path

from realm_jax.config import ConfigError


class Rival:
    """A script of this folder that answers each line on its stdin with a line on its stdout.

    Args:
        python: of its environment.
        script: name of the file, without `.py`.
        arguments: of the script.
    """

    def __init__(self, python: Path, script: str, *arguments: str | Path | int):
        command = [str(python), str(Path(__file__).with_name(f"{script}.py")), *map(str, arguments)]
        environment = {**os.environ, "USE_TF": "0", "HF_HUB_OFFLINE": "1"}  # transformers is not to touch TensorFlow
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)
        self._name = f"{python} {script}.py"

    def __enter__(self) -> "Rival":
        return self

    def __exit__(self, *exception) -> None:
        self._process.communicate()

    def ask(self, line: str) -> str:
        """What it answers. Raises ConfigError if it has ended."""
        with contextlib.suppress(BrokenPipeError):  # the end of its answers says the same
            print(line, file=self._process.stdin, flush=True)
        return self.answer()

    def answer(self) -> str:
        """The next line that it says by itself. Raises ConfigError if it has ended."""
        line = self._process.stdout.readline()
        if not line:
            raise ConfigError(f"{self._name} ended (see above): pip install what it lacks")
        return line


def threads() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
