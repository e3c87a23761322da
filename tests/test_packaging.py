"""Wheel and source archive, in fresh environments, outside of the repository.

pip installs the package as users would; uv, which takes a fraction of the time, its extras, and all for other Pythons.
"""

import configparser
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest

from realm_jax.__main__ import COMMANDS

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
SOURCES = ("realm_jax", "experiments", "setup.cfg", "pyproject.toml", "README.md", "LICENSE")
VERSIONS = ("3.11", "3.12", "3.13")
USERS_EXTRAS = ("serve", "notebooks", "data", "wandb", "gcs")
TINY = [
    "--ict.steps=4",
    "--pretrain.steps=4",
    "--pretrain.index_refresh_every=2",
    "--pretrain.eval_examples=16",
    "--pretrain.recall_examples=32",
]


def settings() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(REPOSITORY / "setup.cfg")
    return parser


def console_scripts(wheel: pathlib.Path) -> list[str]:
    """Names of the commands that it installs."""
    archive = zipfile.ZipFile(wheel)
    (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/entry_points.txt"))
    parser = configparser.ConfigParser()
    parser.read_string(archive.read(name).decode())
    return list(parser["console_scripts"])


def interpreter(version: str) -> str | None:
    """A Python of this version: ours, one on PATH, or one of pyenv's."""
    pyenv = pathlib.Path(os.environ.get("PYENV_ROOT", pathlib.Path.home() / ".pyenv"))
    found = [sys.executable, shutil.which(f"python{version}"), *pyenv.glob(f"versions/{version}.*/bin/python")]
    asks = "import sys; print('%d.%d' % sys.version_info[:2])"
    for python in map(str, filter(None, found)):
        answer = subprocess.run([python, "-c", asks], capture_output=True, text=True, timeout=30)
        if answer.stdout.strip() == version:
            return python
    return None


def run(*command, **kwargs) -> str:
    """What a command prints, if it succeeds."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=1200, **kwargs)
    assert done.returncode == 0, f"{command}\n{done.stdout[-1500:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def dist(tmp_path_factory):
    """The source archive, and the wheel that is made from it."""
    folder = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        source = REPOSITORY / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        options = {"symlinks": True, "ignore": shutil.ignore_patterns("__pycache__")} if source.is_dir() else {}
        copy(source, folder / name, **options)
    run(sys.executable, "-m", "build", "--quiet", "--outdir", folder / "dist", folder)
    (wheel,), (archive,) = (folder / "dist").glob("*.whl"), (folder / "dist").glob("*.tar.gz")
    return wheel, archive


@pytest.mark.slow
def test_the_index_would_take_them(dist):
    assert run(sys.executable, "-m", "twine", "check", "--strict", *dist).count("PASSED") == 2


@pytest.mark.slow
def test_the_wheel_has_the_package_its_data_and_the_experiments(dist):
    names = set(zipfile.ZipFile(dist[0]).namelist())
    package = [f for f in (REPOSITORY / "realm_jax").rglob("*") if f.is_file() and "__pycache__" not in f.parts]
    wanted = {str(file.relative_to(REPOSITORY)) for file in package}
    wanted |= {f"realm_jax/experiments/{file.name}" for file in (REPOSITORY / "experiments").glob("*.py")}
    assert {name for name in names if ".dist-info/" not in name} == wanted
    assert any(name.endswith("licenses/LICENSE") for name in names)


@pytest.mark.slow
def test_the_archive_can_be_built_again(dist):
    names = {name.partition("/")[2] for name in tarfile.open(dist[1]).getnames()}
    assert {"setup.cfg", "pyproject.toml", "README.md", "LICENSE", "realm_jax/experiments/nano.py"} <= names
    assert not any(name.startswith("tests/") for name in names)


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_installed_it_runs_anywhere(version, dist, tmp_path, cache):
    python = interpreter(version)
    if python is None:
        pytest.skip(f"no Python {version} here")
    run(python, "-m", "venv", tmp_path / "venv")
    bin = tmp_path / "venv" / "bin"
    environment = {"PATH": f"{bin}:{os.environ['PATH']}", "HOME": str(tmp_path), "REALM_JAX_CACHE": str(cache)}
    taken = ("PIP_", "SSL_", "REQUESTS_", "JAX_")
    environment |= {name: value for name, value in os.environ.items() if name.startswith(taken)}
    environment["JAX_NUM_CPU_DEVICES"] = "1"
    where = {"cwd": tmp_path, "env": environment}
    uv = [sys.executable, "-m", "uv", "--quiet", "pip", "install", "--python", bin / "python"]

    if python == sys.executable:
        # without compiling, since most files are never imported
        run(bin / "python", "-m", "pip", "install", "--quiet", "--no-compile", dist[0], **where)
    else:
        run(*uv, dist[0])
    run(bin / "python", "-m", "pip", "check", **where)
    run(bin / "realm", "run", "--config=experiments/mini.py", *TINY, **where)
    assert (tmp_path / "runs" / "mini" / "summary.json").exists()

    extras = [name for name in USERS_EXTRAS if name in settings()["options.extras_require"]]
    run(*uv, f"{dist[0]}[{','.join(extras)}]")
    run(bin / "python", "-m", "pip", "check", **where)
    assert console_scripts(dist[0]) == ["realm"]
    for command in COMMANDS:
        assert f"usage: realm {command}" in run(bin / "realm", command, "--help", **where)
