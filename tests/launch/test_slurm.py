"""What launch/realm.sbatch starts where: trainers and builders on GPUs of their own, with `srun` as a stand-in."""

import os
import subprocess

import pytest
from conftest import REPOSITORY

SRUN = """#!/bin/bash
# Takes the place of Slurm: writes down the step, and runs one line for each task, on the hosts of SLURM_HOSTFILE.
line="$REALM_JAX_DISTRIBUTED|$*|$(tr '\\n' ' ' <"${SLURM_HOSTFILE:-/dev/null}")"
echo "$line" >>"$CALLS"
case "$*" in *"realm_jax run"*) sleep 0.2; exit "$FAKE_TRAINER" ;; *) sleep "$FAKE_BUILDER" ;; esac
"""
SCONTROL = '#!/bin/bash\nfor host in ${3//,/ }; do echo "$host"; done\n'
PYTHON = '#!/bin/bash\necho "$CUDA_VISIBLE_DEVICES $*" >>"$CALLS"\n'


@pytest.fixture
def run(tmp_path):
    """Runs a command with Slurm's programs replaced; returns the finished process and the calls."""
    for name, text in {"srun": SRUN, "scontrol": SCONTROL, "python": PYTHON}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)

    def begin(*command, **variables):
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "BUILDER_"))}
        environment = {**kept, "PATH": f"{tmp_path}:{os.environ['PATH']}", "CALLS": str(tmp_path / "calls")}
        environment |= {"FAKE_TRAINER": "0", "FAKE_BUILDER": "0.5", "PYTHON": str(tmp_path / "python"), **variables}
        (tmp_path / "calls").write_text("")
        done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=30)
        return done, sorted((tmp_path / "calls").read_text().splitlines())

    return begin


SBATCH = ("bash", "launch/realm.sbatch", "runs/w", "--seed=3")
TWO_NODES = {"SLURM_NTASKS": "8", "SLURM_JOB_NUM_NODES": "2", "SLURM_JOB_NODELIST": "n1,n2", "SLURM_CPUS_PER_TASK": "8"}


def options(nodes: int, tasks: int) -> str:
    return f"--overlap --distribution=arbitrary --nodes={nodes} --ntasks={tasks} --cpus-per-task=8"


@pytest.mark.parametrize(
    ("builders", "of_trainers", "of_builders"),
    [
        ("", (1, "n1 n1 n1 n1 "), (1, "n2 n2 n2 n2 ")),
        ("2", (2, "n1 n1 n1 n1 n2 n2 "), (1, "n2 n2 ")),
        ("5", (1, "n1 n1 n1 "), (2, "n1 n2 n2 n2 n2 ")),
    ],
)
def test_the_last_gpus_build(run, builders, of_trainers, of_builders):
    done, calls = run(*SBATCH, BUILDER_GPUS=builders, **TWO_NODES)
    assert done.returncode == 0, done.stderr
    trainers, built = (options(nodes, len(hosts.split())) for nodes, hosts in (of_trainers, of_builders))
    command = ".venv/bin/python -m realm_jax run --workdir=runs/w --index.device=accelerator --seed=3"
    assert calls == sorted(
        [
            f"auto|{trainers} {command}|{of_trainers[1]}",
            f"|{built} launch/keep_building.sh runs/w|{of_builders[1]}",
        ]
    )


def test_without_builders_all_train_and_embed(run):
    done, calls = run(*SBATCH, BUILDER_GPUS="0", **TWO_NODES)
    command = ".venv/bin/python -m realm_jax run --workdir=runs/w --index.device=inline --seed=3"
    assert done.returncode == 0 and calls == [f"auto|{options(2, 8)} {command}|n1 n1 n1 n1 n2 n2 n2 n2 "]


def test_one_gpu_is_shared(run):
    done, calls = run(*SBATCH, SLURM_NTASKS="1")
    assert done.returncode == 0 and calls == ["|launch/one_gpu.sh runs/w --seed=3|"]


def test_trainers_that_fail_end_the_job(run):
    done, _ = run(*SBATCH, **TWO_NODES, FAKE_TRAINER="9", FAKE_BUILDER="3")
    assert done.returncode == 9  # Slurm then ends the builders' step


def test_gpus_that_are_all_taken_by_builders_are_refused(run):
    done, calls = run(*SBATCH, BUILDER_GPUS="8", **TWO_NODES)
    assert done.returncode == 2 and "BUILDER_GPUS=8 leaves none of 8 GPUs to train" in done.stderr and not calls


@pytest.mark.parametrize(("task", "gpu"), [("0", "7"), ("1", "5")])
def test_a_builder_takes_the_nodes_last_gpus(run, task, gpu):
    done, calls = run("launch/keep_building.sh", "gs://b/run", SLURM_LOCALID=task, CUDA_VISIBLE_DEVICES="1,3,5,7")
    assert done.returncode == 0 and calls == [f"{gpu} -m realm_jax builder --workdir=gs://b/run"]


def test_elsewhere_a_builder_takes_what_it_sees(run):
    done, calls = run("launch/keep_building.sh", "runs/w", CUDA_VISIBLE_DEVICES="2")
    assert done.returncode == 0 and calls == ["2 -m realm_jax builder --workdir=runs/w"]
