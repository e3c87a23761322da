"""The README's tables are those that the measurements give."""

import pathlib
import re
import subprocess
import sys

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]


def test_tables_come_from_the_results():
    command = [sys.executable, "benchmarks/tables.py", "--check"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def documented_commands() -> dict[str, set[str]]:
    """Flags that README and docs show for each of our modules."""
    flags: dict[str, set[str]] = {}
    for page in [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]:
        text = page.read_text().replace("\\\n", " ")
        for module, rest in re.findall(r"python -m (realm_jax[\w.]*)([^`\n]*)", text):
            ours = re.sub(r'(--beam)="[^"]*"', r"\1", rest)  # Beam's own flags
            flags.setdefault(module, set()).update(re.findall(r"--[\w.-]+", ours))
    return flags


@pytest.mark.parametrize(("module", "flags"), documented_commands().items(), ids=documented_commands())
def test_documented_flags_exist(module, flags):
    command = [sys.executable, "-m", module, "--help"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-500:]
    known = set(re.findall(r"--[\w.-]+", done.stdout.replace("_", "-")))
    assert {flag.replace("_", "-").rstrip(".") for flag in flags} - {"--finetune"} <= known
