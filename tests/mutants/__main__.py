"""Plants every fault of `faults.py`, one at a time, and runs the tests that are said to guard against it.

    python -m tests.mutants [WORD …]

First the tests run on the sound code. Then each fault gets a copy of the code of its own. A fault is found if an
assertion fails; it survives if all tests pass, or if they fail of something else. All share what XLA compiled.
"""

import argparse
import concurrent.futures
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

from tests.mutants.fault import Fault
from tests.mutants.faults import FAULTS

ROOT = pathlib.Path(__file__).parents[2]
COPIED = ("realm_jax", "tests", "experiments", "benchmarks", "setup.cfg", "pyproject.toml")
TIMEOUT_S = 600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", help="only faults whose description or place has one of them")
    parser.add_argument("--table", action="store_true", help="only print the table of docs/contributing.md")
    flags = parser.parse_args()
    if flags.table:
        print(table())
        return
    chosen = [f for f in FAULTS if not flags.words or any(word in f"{f.what} {f.where}" for word in flags.words)]
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        survivors = run(chosen, pathlib.Path(folder))
    print(f"{len(survivors)} of {len(chosen)} planted faults survive; {time.monotonic() - started:.0f} s")
    sys.exit(1 if survivors else 0)


def run(faults: list[Fault], folder: pathlib.Path) -> list[Fault]:
    """The faults that survive. Exits if the sound code fails its tests, or a fault no longer applies."""
    for fault in faults:
        fault.plant((ROOT / "realm_jax" / fault.file).read_text())
    tests = sorted({test for fault in faults for test in fault.tests.split()})
    passed, report = pytest(copy(folder / "sound"), tests, "-n", str(os.cpu_count()), "--dist=loadfile")
    if not passed:
        sys.exit(f"the sound code fails its tests:\n{report}")
    print(f"sound: {len(tests)} files or tests pass", flush=True)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(lambda numbered: is_found(numbered[1], folder / f"{numbered[0]}"), enumerate(faults)))
    return [fault for fault, noticed in zip(faults, found, strict=True) if not noticed]


def is_found(fault: Fault, root: pathlib.Path) -> bool:
    """Whether an assertion fails once the fault is planted."""
    started = time.monotonic()
    file = copy(root) / "realm_jax" / fault.file
    file.write_text(fault.plant(file.read_text()))
    try:
        passed, report = pytest(root, fault.tests.split(), "-x")
    except subprocess.TimeoutExpired:
        passed, report = False, f"not done after {TIMEOUT_S} s"
    noticed = not passed and report.startswith("assertion ")
    by = report.split(maxsplit=1)[-1].strip() if noticed else report or "all tests pass"
    shutil.rmtree(root)
    verdict = "found" if noticed else "SURVIVES"
    print(f"{verdict}: {fault.what} ({fault.where}), {time.monotonic() - started:.0f} s: {by}", flush=True)
    return noticed


def copy(root: pathlib.Path) -> pathlib.Path:
    """A copy of what tests need. Compiled files come along: they are checked by their sources' times."""
    root.mkdir()
    for name in COPIED:
        source = ROOT / name
        shutil.copytree(source, root / name, symlinks=True) if source.is_dir() else shutil.copy2(source, root / name)
    return root


def pytest(root: pathlib.Path, tests: list[str], *flags: str) -> tuple[bool, str]:
    """(whether all passed, lines of `watch` for those that failed, or pytest's last words where there are none)."""
    report = root / "report"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.mutants.watch"]
    result = subprocess.run(
        [*command, "-m", "not slow", *flags, *(f"tests/{test}" for test in tests)],
        cwd=root,
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")},
            "PYTHONPATH": str(root),
            "REALM_MUTANT_REPORT": str(report),
            "JAX_COMPILATION_CACHE_DIR": str(root.parent / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2",
        },
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
    )
    text = report.read_text() if report.exists() else ""
    return result.returncode == 0, text or ("" if result.returncode == 0 else result.stdout[-2000:])


def table() -> str:
    """The faults and their guards, as Markdown."""
    lines = ["| planted | in | noticed by |", "|---|---|---|"]
    for fault in FAULTS:
        tests = ", ".join(f"`{test}`" for test in fault.tests.split())
        lines.append(f"| {fault.what} | `{fault.where}` | {tests} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
