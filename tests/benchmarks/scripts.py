"""The benchmarks as scripts, whose functions tests call."""

import functools
import pathlib
import runpy
import sys

BENCHMARKS = pathlib.Path(__file__).parents[2] / "benchmarks"


@functools.cache
def load(name: str) -> dict:
    """The names of a script, which may import the scripts beside it."""
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return runpy.run_path(str(BENCHMARKS / f"{name}.py"))
    finally:
        sys.path.remove(str(BENCHMARKS))
