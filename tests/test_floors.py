"""The lowest versions of setup.cfg are a promise: with all of them at once, a run is trained and both searches work."""

import os
import pathlib
import subprocess
import sys

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
TINY = [
    "--ict.steps=4",
    "--pretrain.steps=4",
    "--pretrain.index_refresh_every=2",
    "--pretrain.eval_examples=16",
    "--pretrain.recall_examples=32",
    "--index.device=inline",
]


def run(*command, **options) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=1800, **options)
    assert done.returncode == 0, f"{command}\n{done.stdout[-1500:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> pathlib.Path:
    """A Python with the oldest versions that setup.cfg allows; needs the network."""
    folder = tmp_path_factory.mktemp("floors")
    uv = [sys.executable, "-m", "uv", "--quiet"]
    version = f"--python-version={sys.version_info.major}.{sys.version_info.minor}"
    setup = REPOSITORY / "setup.cfg"
    run(*uv, "pip", "compile", "--resolution=lowest-direct", version, setup, "--output-file", folder / "floors.txt")
    run(*uv, "venv", "--python", sys.executable, folder / "venv")
    found = folder / "venv" / "bin" / "python"
    run(*uv, "pip", "install", "--python", found, "--requirement", folder / "floors.txt")
    return found


@pytest.fixture
def environment() -> dict:
    """One device; flags that XLA knew later would end it."""
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "JAX_NUM_CPU_DEVICES": "1", "XLA_FLAGS": ""}


@pytest.mark.slow
def test_every_module_is_imported_and_both_searches_agree(python, environment, tmp_path):
    out = run(python, REPOSITORY / "tests" / "at_the_floors.py", tmp_path, cwd=tmp_path, env=environment)
    modules, found = (part.split(": ")[1] for part in out.strip().splitlines()[-1].split(", "))
    assert int(modules) > 150 and float(found) > 0.9


@pytest.mark.slow
def test_a_run_is_trained(python, environment, tmp_path):
    run(python, "-m", "realm_jax", "run", "--config=mini", "--workdir=run", *TINY, cwd=tmp_path, env=environment)
    assert (tmp_path / "run" / "summary.json").exists() and (tmp_path / "run" / "report.html").exists()
