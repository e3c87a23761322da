"""Arms of an ablation, run as a user runs them: parts are shared, index ages are as planned, nothing runs twice."""

import json
import os
import pathlib
import subprocess
import sys

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
EXPERIMENT = """
import dataclasses
import runpy

from realm_jax.config import FinetuneConfig, IndexConfig
from realm_jax.ablations.arms import Arm


def get_arms():
    config = runpy.run_path("experiments/mini.py")["get_config"]()
    pretrain = dataclasses.replace(config.pretrain, steps=12, index_refresh_every=4, checkpoint_every=6, log_every=1)
    index = IndexConfig(search="exact", device="inline", max_age_steps=4, max_age_policy="pause")
    ict = dataclasses.replace(config.ict, steps=10)
    config = dataclasses.replace(config, pretrain=pretrain, index=index, ict=ict)
    finetune = FinetuneConfig(epochs=1, train_questions=48, dev_questions=16)
    stale = dataclasses.replace(
        config, pretrain=dataclasses.replace(pretrain, index_refresh_every=0), index=IndexConfig(search="exact")
    )
    return {
        "realm": Arm("REALM", config, finetune, paper=(38.2, 38.5)),
        "stale": Arm("stale", stale, finetune, paper=(28.7, 15.1)),
        "frozen": Arm("frozen", config, dataclasses.replace(finetune, train_retriever="none")),
        "reads_1": Arm("one block", config, dataclasses.replace(finetune, inference_blocks=1), reader_of="realm"),
    }
"""


@pytest.fixture(scope="module")
def ablation(tmp_path_factory, cache):
    """Runs the command; returns its folder and what two calls printed."""
    folder = tmp_path_factory.mktemp("ablation")
    (folder / "experiment.py").write_text(EXPERIMENT)
    command = [sys.executable, "-m", "realm_jax", "ablate", f"--experiment={folder / 'experiment.py'}"]
    command += [f"--out={folder / 'out'}", "--dataset=cloze", "--arms=all"]
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "1", "REALM_JAX_CACHE": str(cache)}
    printed = []
    for _ in range(2):
        done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=1200)
        assert done.returncode == 0, done.stderr[-3000:]
        printed.append(done.stdout)
    return folder / "out", printed


@pytest.mark.slow
def test_every_arm_has_its_result_and_its_row(ablation):
    out, printed = ablation
    results = {file.stem: json.loads(file.read_text()) for file in (out / "results").glob("*.json")}
    assert set(results) == {"realm-0", "stale-0", "frozen-0", "reads_1-0"}
    rows = [line for line in printed[0].splitlines() if line.startswith("| ") and "paper EM" not in line][-4:]
    assert [row.split(" | ")[0] for row in rows] == ["| REALM", "| stale", "| frozen", "| one block"]
    questions = {len(result["values"]["exact_match"]) for result in results.values()}
    assert len(questions) == 1 and questions.pop() > 50
    assert results["frozen-0"]["values"]["recall@5"] == results["realm-0"]["values"]["recall@5"]  # the same retriever


@pytest.mark.slow
def test_index_age_counts_in_steps(ablation):
    out, _ = ablation
    fresh, stale = (
        [json.loads(line) for line in (out / "seed-0" / arm / "pretrain" / "metrics.jsonl").read_text().splitlines()]
        for arm in ("realm", "stale")
    )
    # A version of step 4 is there before step 5, which is the first to use it.
    assert [line["index_age_steps"] for line in fresh] == [1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4]
    assert [line["index_age_steps"] for line in stale] == list(range(1, 13))


@pytest.mark.slow
def test_shared_parts_are_made_once(ablation):
    out, printed = ablation
    runs = {folder.name for folder in (out / "seed-0").iterdir()}
    assert runs == {"realm", "stale"}  # the others differ in fine-tuning alone
    ours, theirs = (out / "seed-0" / arm / "ict" / "DONE" for arm in ("realm", "stale"))
    assert os.path.samefile(ours, theirs)  # lent, not trained again
    assert "$ realm" in printed[0] and "$ realm" not in printed[1]  # the second call had nothing to do
