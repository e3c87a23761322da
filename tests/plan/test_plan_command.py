"""`realm plan`: what it takes, what it refuses, and that it needs no JAX; `--measure` takes real steps."""

import json
import subprocess
import sys

import pytest

from realm_jax import console
from realm_jax.commands import plan as command
from realm_jax.config import ConfigError
from realm_jax.data.corpus import Corpus

EXPERIMENT = "--config=experiments/mini.py"


def printed(capsys, *words: str) -> str:
    command.main([EXPERIMENT, *words])
    return capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--blocks=9", "--hardware=v99"], "--hardware='v99' is unknown: use one of v3-8, "),
        (["--blocks=9", "--utilization=0"], r"--utilization=0.0 must lie in \(0, 1\]"),
        (["--blocks=9", "--utilization=1.5"], r"--utilization=1.5 must lie in \(0, 1\]"),
        (["--blocks=-9"], "--blocks and --questions must be positive"),
        (["--blocks=0"], "--blocks and --questions must be positive"),
        (["--blocks=9", "--corpus=corpora/mine"], "--blocks is for a corpus that is not built yet: drop it, or drop"),
        (["--blocks=9", "--questions=0"], "--blocks and --questions must be positive"),
        ([], "asset:mini: no corpus is built here: pass --corpus=FOLDER of one, or --blocks=N"),
        (["--corpus=nowhere"], "nowhere: no corpus is built here"),
        (["--blocks=9", "--measure", "--hardware=v3-8"], "--measure takes its steps on this machine: drop --hardware"),
        (["--blocks=9", "--model.num_heads=3"], "model.hidden_size must be a multiple of model.num_heads"),
    ],
)
def test_what_it_refuses(words, said):
    with pytest.raises(ConfigError, match=said):
        command.main([EXPERIMENT, *words])


def test_every_setting_can_be_given(capsys):
    plain, smaller = (
        json.loads(printed(capsys, "--blocks=1000", "--hardware=v3-8", "--json", *more))
        for more in ([], ["--pretrain.batch_size=8", "--model.gradient_checkpointing=True"])
    )
    steps = [next(p for p in said["phases"] if p["phase"] == "pretrain") for said in (plain, smaller)]
    assert steps[1]["flops"]["model"] < steps[0]["flops"]["model"] and steps[1]["flops"]["again"] > 0


def test_a_built_corpus_is_read(capsys, tiny_run):
    corpus = Corpus.open(tiny_run.knowledge_folder)
    said = json.loads(printed(capsys, f"--corpus={tiny_run.knowledge_folder}", "--hardware=v3-8", "--json"))
    assert said["corpus"]["blocks"] == corpus.num_blocks and said["corpus"]["lengths_known"]


def test_what_people_see(capsys, monkeypatch):
    monkeypatch.setattr(console, "WIDTH", 120)
    shown = printed(capsys, "--blocks=1000", "--hardware=v3-8")
    lines = shown.splitlines()
    assert max(map(len, lines)) <= 120 and lines[0].startswith("mini on v3-8: 8 devices, 1 host; a device has 61.5 ")
    assert "calculated, not measured" in shown and "host memory, by part" in shown and "pre-training" in shown


def test_figures_for_a_script_stand_alone(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # outside of the repository, the log names the experiment that came with the package
    command.main([EXPERIMENT, "--blocks=1000", "--hardware=v3-8", "--json"])
    said = capsys.readouterr()
    assert json.loads(said.out)["experiment"] == "mini" and "(copy it to change it)" in said.err


def test_it_needs_no_jax():
    code = (
        "import sys; from realm_jax.commands import plan; "
        f"plan.main(['{EXPERIMENT}', '--blocks=1000', '--hardware=h100x8']); assert 'jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, capture_output=True)


@pytest.mark.slow
def test_measured_steps_are_those_of_the_phases(capsys):
    said = json.loads(printed(capsys, "--blocks=1000", "--measure", "--json", "--ict.steps=0"))
    assert set(said["measured_step_seconds"]) == {"pretrain", "finetune"}
    assert all(0 < seconds < 60 for seconds in said["measured_step_seconds"].values())
    for phase in said["phases"]:
        assert phase["step_seconds"] == said["measured_step_seconds"][phase["phase"]]
    assert said["hardware"]["name"] == "cpu"
