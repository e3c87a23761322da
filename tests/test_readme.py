"""The README's tables are those that the measurements give."""

import json
import pathlib
import re
import subprocess
import sys
from typing import NamedTuple

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]


def test_tables_come_from_the_results():
    command = [sys.executable, "benchmarks/tables.py", "--check"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_what_is_said_of_hard_recall_is_what_was_measured():
    """Both ranks fall with ICT; REALM brings the first back, hardly higher, and the first five above the start."""
    values = json.loads((REPOSITORY / "benchmarks" / "results" / "nano.json").read_text())["values"]["realm"]["states"]
    first, fifth = ([Interval(**values[state][f"hard_recall@{k}"]) for state in values] for k in (1, 5))
    start, ict, realm = first
    assert ict.is_below(start) and ict.is_below(realm) and not (start.is_below(realm) or realm.is_below(start))
    assert fifth[1].is_below(fifth[0]) and fifth[0].is_below(fifth[2])
    plain = [Interval(**values[state]["plain_recall@1"]) for state in values]
    assert plain[0].is_below(plain[2]) and plain[1].is_below(plain[2])


class Interval(NamedTuple):
    mean: float
    half_width: float
    n: int

    def is_below(self, other: "Interval") -> bool:
        """By more than the noise of their difference, as if they were independent."""
        return other.mean - self.mean > (self.half_width**2 + other.half_width**2) ** 0.5


def test_what_has_not_run_is_said_not_to_have_run():
    """README and the page of commands say of TPU and Colab what their own pages say."""
    names = ("docs/launch.md", "docs/notebooks.md", "README.md", "docs/commands.md")
    launch, notebooks, readme, commands = ((REPOSITORY / name).read_text() for name in names)
    for page in (readme, commands):
        (line,) = re.findall(r"^[-|] .*`make pretrain TPU=v3-8` .*", page.replace("\n  ", " "), re.M)
        assert ("on real hardware: nothing yet" in launch) == ("Not yet run on a TPU, GPU or cloud" in line)
    (colab,) = re.findall(r"^In the browser, .*", readme, re.M)
    assert ("not yet run on Colab" in notebooks.replace("\n", " ")) == ("not yet on Colab" in colab)


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
