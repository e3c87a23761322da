"""Keeps a measurement with what is needed to judge it: date, commit, hardware, versions, command line, paths."""

import datetime
import importlib.metadata
import json
import os
import platform
import shlex
import subprocess
import sys
from pathlib import Path

from depends import PATHS, RESULTS

PACKAGES = ("jax", "flax", "scann", "numpy")


def write_result(name: str, values: dict, note: str = "") -> Path:
    """Writes `benchmarks/results/NAME.json` over the last result of that name, and returns its path.

    The running script has to be in `depends.PATHS`.
    """
    said_above = ("--note", note, f"--note={note}")
    arguments = [argument for argument in sys.argv[1:] if argument not in said_above]
    result = {
        "name": name,
        "note": note,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "commit": commit(),
        "hardware": _hardware(),
        "versions": {"python": platform.python_version(), **{package: _version(package) for package in PACKAGES}},
        "command": shlex.join(["python", os.path.relpath(sys.argv[0]), *arguments]),
        "depends_on": PATHS[Path(sys.argv[0]).stem],
        "values": values,
    }
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    return path


def commit() -> str:
    """The commit of this tree, and `+changes` where code differs from it."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(RESULTS.parent), *arguments]
        try:
            return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
        except FileNotFoundError:
            return ""

    head = git("rev-parse", "--verify", "--quiet", "HEAD") or os.environ.get("COMMIT", "none")
    return head + ("+changes" if git("status", "--porcelain", "--", ":/realm_jax", ":/benchmarks/*.py") else "")


def _hardware() -> dict:
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()  # ours, of them all
    return {"cpu": _cpu_model(), "cores": cores, "memory_gib": round(memory_bytes / 2**30, 1)}


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "absent"
