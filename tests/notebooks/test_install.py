"""The install cell: nothing where the package is, the runtime's own JAX where it is not, and safe to run twice."""

import importlib.metadata
import importlib.util
import pathlib
import re
import subprocess
import sys
import types
from collections import namedtuple

import pytest
from test_notebooks import SOURCES, cells

CELL = re.sub(r"^!.*$", "", cells(SOURCES[0], "code")[0], flags=re.MULTILINE)
Package = namedtuple("Package", "name version")


def run() -> None:
    exec(compile(CELL, "install", "exec"), {})


class Pip:
    """Takes the place of `subprocess.run`: keeps the calls and their constraints, and makes the package importable."""

    def __init__(self, monkeypatch, returncode: int = 0, origin: str | None = "realm_jax/__init__.py"):
        self.calls, self._returncode, self._here = [], returncode, None
        self._origin = origin
        monkeypatch.setattr(subprocess, "run", self._run)
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: self._here)

    def is_a_folder(self) -> None:
        """What `find_spec` finds where the repository was cloned: a folder of that name without `__init__.py`."""
        self._here = types.SimpleNamespace(origin=None)

    def _run(self, command, **_) -> subprocess.CompletedProcess:
        constraints = pathlib.Path(command[command.index("--constraint") + 1])
        self.calls.append((command, constraints.read_text().split()))
        if not self._returncode:
            self._here = types.SimpleNamespace(origin=self._origin)
        return subprocess.CompletedProcess(command, self._returncode, "", "ERROR: no network\n")


def with_packages(monkeypatch, *packages: tuple[str, str]) -> None:
    monkeypatch.setattr(importlib.metadata, "distributions", lambda: [Package(*package) for package in packages])


def test_where_the_package_is_it_installs_nothing(monkeypatch, capsys):
    def refuse(*args, **kwargs):
        raise AssertionError("a command was run")

    monkeypatch.setattr(subprocess, "run", refuse)
    run()
    run()
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and lines[0] == lines[1]
    assert f"jax {importlib.metadata.version('jax')}" in lines[0]


def test_it_keeps_jax_and_libtpu_and_installs_once(monkeypatch, capsys):
    pip = Pip(monkeypatch)
    packages = [("jax", "0.10.1"), ("jaxlib", "0.10.1"), ("libtpu", "0.0.41"), ("jaxtyping", "0.2"), ("numpy", "2.0.2")]
    with_packages(monkeypatch, *packages)
    run()
    run()
    ((command, constraints),) = pip.calls
    assert constraints == ["jax==0.10.1", "jaxlib==0.10.1", "libtpu==0.0.41"]
    assert command[:4] == [sys.executable, "-m", "pip", "install"] and "--upgrade" not in command
    assert command[-1] == "realm_jax @ git+https://github.com/realm-jax/realm_jax"


def test_a_runtime_without_jax_gets_one(monkeypatch):
    pip = Pip(monkeypatch)
    with_packages(monkeypatch, ("numpy", "2.0.2"))
    run()
    assert pip.calls[0][1] == []


def test_a_clone_beside_the_notebook_is_no_package(monkeypatch):
    pip = Pip(monkeypatch)
    pip.is_a_folder()
    run()
    assert len(pip.calls) == 1


def test_a_failed_installation_says_why(monkeypatch):
    Pip(monkeypatch, returncode=1)
    with pytest.raises(SystemExit, match="pip could not install realm_jax .* no network"):
        run()


@pytest.mark.parametrize("version", ["0.6.2", "0.5.3", "0.4.33"])
@pytest.mark.parametrize(
    ("other", "wanted"),
    [("numpy", "jax>=0.7"), ("libtpu", "jax[tpu]>=0.7"), ("jax-cuda12-plugin", "jax[cuda12]>=0.7")],
)
def test_an_old_jax_is_upgraded_and_one_restart_is_asked_for(version, other, wanted, monkeypatch):
    pip = Pip(monkeypatch)
    with_packages(monkeypatch, ("jax", version), (other, "0.0.17"))
    with pytest.raises(SystemExit, match=f"jax {version} was too old .* restart the session once") as error:
        run()
    ((command, constraints),) = pip.calls
    assert command[-2:] == [wanted, "realm_jax @ git+https://github.com/realm-jax/realm_jax"] and not constraints
    assert "\n" not in str(error.value)


def test_a_failed_upgrade_asks_for_no_restart(monkeypatch):
    Pip(monkeypatch, returncode=1)
    with_packages(monkeypatch, ("jax", "0.6.2"))
    with pytest.raises(SystemExit, match="pip could not install jax>=0.7"):
        run()


@pytest.mark.parametrize("version", ["0.7.0", "0.7.2", "0.12.1", "1.0.0", "0.10.2.dev20260101"])
def test_a_newer_jax_is_not(version, monkeypatch):
    pip = Pip(monkeypatch)
    with_packages(monkeypatch, ("jax", version))
    run()
    assert pip.calls[0][1] == [f"jax=={version}"]


def test_an_old_python_is_refused_in_one_sentence(monkeypatch):
    pip = Pip(monkeypatch)
    monkeypatch.setattr(sys, "version_info", (3, 10, 12))
    monkeypatch.setattr(sys, "version", "3.10.12 (main)")
    with pytest.raises(SystemExit, match=r"needs Python 3\.11 or newer, and this runtime has 3\.10\.12: ") as error:
        run()
    assert "\n" not in str(error.value) and not pip.calls
