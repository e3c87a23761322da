"""A cloud on this machine: `fake_gcloud.py` on PATH, and hosts whose Python is ours."""

import json
import os
import pathlib
import shlex
import stat
import subprocess
import sys

import fake_gcloud
import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
UV = f"""#!/bin/bash
# On a host: uv, which needs no network here, and the image's own Python.
[ "$1 $2" = "-m uv" ] || exec {sys.executable} "$@"
case "$3" in
  --version) echo "uv 0.13.9" ;;
  venv)
    mkdir -p .venv/bin
    cat >.venv/bin/python <<'END'
#!/bin/bash
[ "$1" != - ] || {{ cat >/dev/null; exit ${{CHIPS_ANSWER:-0}}; }}
exec {sys.executable} "$@"
END
    chmod +x .venv/bin/python ;;
  pip) echo "$@" >>$HOME/installed ;;
esac
"""


class Cloud:
    """The slices, and how commands meet them."""

    def __init__(self, root: pathlib.Path):
        self.root = root
        (root / "bin").mkdir()
        self.program("gcloud", f'#!/bin/bash\nexec {sys.executable} {fake_gcloud.__file__} "$@"\n')
        self.program("python3", UV)
        self.host: dict[str, str] = {}

    def program(self, name: str, text: str) -> None:
        """A program that all machines find first."""
        file = self.root / "bin" / name
        file.write_text(text)
        file.chmod(file.stat().st_mode | stat.S_IXUSR)

    def environment(self, **settings: str) -> dict[str, str]:
        ours = ("TPU", "NAME", "ZONE", "PROJECT", "WORKDIR", "SPOT", "BUILDER_TPU", "BUILDER_ZONE", "JAX", "DRY_RUN")
        kept = {name: value for name, value in os.environ.items() if name not in ours and not name.startswith("MAKE")}
        cloud = {"FAKE_CLOUD": str(self.root), "FAKE_HOST": json.dumps(self.host), "POLL_S": "0.1"}
        return {**kept, **cloud, "PATH": f"{self.root / 'bin'}:{os.environ['PATH']}", **settings}

    def run(self, *command: str, **settings: str) -> subprocess.CompletedProcess:
        """A command in the repository's root."""
        return subprocess.run(
            command,
            cwd=REPOSITORY,
            env=self.environment(**settings),
            capture_output=True,
            text=True,
            timeout=120,
            stdin=subprocess.DEVNULL,
        )

    def make(self, *arguments: str) -> subprocess.CompletedProcess:
        """`make` as a user calls it, without the setting up of this machine."""
        return self.run("make", "-o", "setup", *arguments)

    def calls(self) -> list[list[str]]:
        """Arguments of every call of gcloud."""
        file = self.root / "calls"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def printed(output: str) -> list[tuple[tuple[str, str], list[str], dict[str, str]]]:
    """The gcloud commands that DRY_RUN printed, each of which the real one would take."""
    lines = [line for line in output.splitlines() if line.startswith("gcloud ")]
    return [fake_gcloud.parse(shlex.split(line)[1:]) for line in lines]


@pytest.fixture
def cloud(tmp_path):
    """A cloud without slices."""
    return Cloud(tmp_path)
