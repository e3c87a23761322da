"""The files of launch/ themselves: short, sound, and read by the tools that will read them."""

import pathlib
import re
import subprocess
import sys

import pytest
import yaml
from conftest import REPOSITORY

LAUNCH = REPOSITORY / "launch"
SCRIPTS = sorted(LAUNCH.glob("*.sh"))


def test_shellcheck():
    shellcheck = pathlib.Path(sys.executable).with_name("shellcheck")
    files = [*SCRIPTS, LAUNCH / "realm.sbatch"]
    done = subprocess.run([shellcheck, "-x", "-P", "SCRIPTDIR", *files], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda file: file.name)
def test_scripts_are_short_and_stop_at_the_first_failure(script):
    lines = script.read_text().splitlines()
    assert len(lines) < 60 and max(map(len, lines)) <= 120
    text = script.read_text()
    assert "set -euo pipefail" in text or '. "$(dirname "$0")/common.sh"' in text or "Sourced" in lines[0]
    assert bool(script.stat().st_mode & 0o100) == lines[0].startswith("#!")


def flags_of(text: str) -> set[str]:
    """Settings that a file passes to realm_jax.run."""
    return set(re.findall(r"--([a-z_]+(?:\.[a-z_]+)+)=", text))


def known_settings() -> set[str]:
    from realm_jax.config import Config
    from realm_jax.config_json import to_json

    return {f"{section}.{name}" for section, of in to_json(Config()).items() if isinstance(of, dict) for name in of}


def test_skypilot_task():
    task = yaml.safe_load((LAUNCH / "sky.yaml").read_text())
    assert set(task) <= {"name", "workdir", "num_nodes", "resources", "envs", "file_mounts", "setup", "run"}
    assert set(task["resources"]) <= {"accelerators", "accelerator_args", "use_spot", "disk_size", "memory", "infra"}
    for script in (task["setup"], task["run"]):
        subprocess.run(["bash", "-n"], input=script, text=True, check=True, timeout=10)
    assert flags_of(task["envs"]["SETTINGS"]) <= known_settings()
    uv = re.search(r"^uv_version=(.*)$", (LAUNCH / "vm_setup.sh").read_text(), flags=re.M)[1]
    assert f"uv=={uv}" in task["setup"]
    assert (REPOSITORY / task["envs"]["CONFIG"]).exists()


def test_slurm_script():
    text = (LAUNCH / "realm.sbatch").read_text()
    assert text.startswith("#!/")
    directives = re.findall(r"^#SBATCH --([a-z-]+)=(\S+)", text, flags=re.M)
    assert {"job-name", "nodes", "ntasks-per-node", "gpus-per-node", "time", "signal", "output"} <= {
        d[0] for d in directives
    }
    assert len(directives) == text.count("#SBATCH")
    first_command = re.search(r"^[^#\n]", text, flags=re.M).start()
    assert "#SBATCH" not in text[first_command:]  # Slurm reads none after it
    assert flags_of(text) <= known_settings()


def test_the_table_of_pairs_has_the_pinned_jax():
    constraints = (REPOSITORY / "constraints.txt").read_text()
    jax = re.search(r"^jax==(.*)$", constraints, flags=re.M)[1]
    assert f"jax {jax}" in (REPOSITORY / "docs/launch.md").read_text()
