"""The venv of independent implementations, which `make test-all` makes."""

import os
import pathlib
import subprocess

import pytest


@pytest.fixture(scope="session")
def oracle():
    """`oracle(code, *arguments)` runs code in that venv and returns what it printed."""
    python = pathlib.Path(__file__).parents[2] / ".venv-oracle" / "bin" / "python"
    if not python.exists():
        assert not os.environ.get("CI"), "no .venv-oracle: run make oracle"
        pytest.skip("no .venv-oracle: run make oracle")

    def run(code: str, *arguments) -> str:
        command = [str(python), "-c", code, *map(str, arguments)]
        environment = {**os.environ, "USE_TF": "0", "HF_HUB_OFFLINE": "1"}  # transformers is not to touch TensorFlow
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    return run
