"""The experiment for one GPU, tiny on a CPU: it measures, plans, goes on where it was, and its figures are those of
what it measured."""

import io
import json
import os
import pathlib
import subprocess
import sys
import tarfile

import numpy as np
import pytest

from realm_jax.data.corpus import Corpus
from tests.benchmarks.scripts import BENCHMARKS, load

PARTS = "first,ict,realm,heldout,finetune_ict"


def experiment(workdir: pathlib.Path, *flags: str) -> str:
    """Runs it on one device; returns what it printed."""
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "1"}
    command = [sys.executable, BENCHMARKS / "gpu_experiment.py", "--dry_run", f"--workdir={workdir}", *flags]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> pathlib.Path:
    """The workdir of a run."""
    workdir = tmp_path_factory.mktemp("experiment")
    experiment(workdir, "--minutes=60", f"--parts={PARTS}")
    return workdir


@pytest.mark.slow
def test_warm_up_plans_the_steps(tmp_path):
    experiment(tmp_path, "--warm_up", "--minutes=2", "--parts=ict,realm")
    plan, lines = json.loads((tmp_path / "plan.json").read_text()), {}
    for phase in ("ict", "pretrain"):
        file = tmp_path / "warm_up" / phase / "metrics.jsonl"
        lines[phase] = [json.loads(line) for line in file.read_text().splitlines()]
        assert [line["step"] for line in lines[phase]] == [5, 10, 15]
    for part, phase, share, unit, own in (("ict", "ict", 0.1, 100, 20), ("realm", "pretrain", 0.35, 10, 20)):
        fit = share * 120 / lines[phase][-1]["step_seconds"]
        fewest = plan[part] == unit and fit < unit  # on a machine that is busy
        assert plan[part] == own or fewest or abs(plan[part] - fit) <= unit / 2
        assert plan[part] != own or fit < own / 0.39


@pytest.mark.slow
def test_a_finished_run_does_nothing_and_another_part_is_added(measured):
    before = (measured / "run" / "measured" / "retrieved_ict.npz").read_bytes()
    said = experiment(measured, "--minutes=60", f"--parts={PARTS}")
    assert "steps done" not in said and (measured / "run" / "measured" / "retrieved_ict.npz").read_bytes() == before


@pytest.mark.slow
def test_there_is_something_of_every_part_and_index_version(measured):
    record = json.loads((measured / "measured.json").read_text())
    assert {name: record["parts"][name] for name in PARTS.split(",")} == dict.fromkeys(PARTS.split(","), "done")
    files = load("gpu_scores")["unpack"](measured / "measured.tar")
    states = load("gpu_scores")["arrays"](files, "retrieved")
    assert list(states) == ["first", "ict", "realm-00010", "realm-00020"]
    assert set(load("gpu_scores")["arrays"](files, "heldout")) == {"ict", "realm"}
    assert not np.array_equal(states["ict"]["squad_open_dev"], states["realm-00020"]["squad_open_dev"])


@pytest.mark.slow
def test_recall_is_that_of_a_loop_over_texts(measured):
    scores = load("gpu_scores")
    files = scores["unpack"](measured / "measured.tar")
    corpus = Corpus.open(measured / "run" / "corpus")
    tokenizer = scores["run_tokenizer"].load(measured / "run" / "tokenizer.json")
    finder = scores["AnswerFinder"](corpus, tokenizer)
    tables = scores["retrieval"](files, corpus, finder, measured / "questions")
    for name in scores["TESTS"]:
        asked = [json.loads(line) for line in (measured / "questions" / f"{name}.jsonl").read_text().splitlines()]
        with tarfile.open(measured / "measured.tar") as archive:
            found = np.load(io.BytesIO(archive.extractfile("measured/retrieved_ict.npz").read()))[name]
        assert len(found) == len(asked)
        table = tables[f"{name}, gold passages"]
        for k in (5, 20):
            passages = [list(dict.fromkeys(corpus.block(int(block)).source_id for block in row)) for row in found]
            hits = [question["gold_passage"] in of[:k] for question, of in zip(asked, passages, strict=True)]
            assert table["recall"]["ict"][f"recall@{k}"]["mean"] == pytest.approx(np.mean(hits), abs=1e-5)
        table = tables[f"{name}, answers"]
        means = {state: row["recall@20"]["mean"] for state, row in table["recall"].items()}
        paired = table["paired"]["realm-00020 - ict"]["recall@20"]["mean"]
        assert paired == pytest.approx(means["realm-00020"] - means["ict"], abs=2e-5)
        assert means["BM25"] > means["first"]


def test_ranks_of_answers_and_passages():
    scores = load("gpu_scores")

    class Finder:
        def each_holds(self, questions, blocks, rule):
            return np.isin(blocks, [7])

    blocks = np.array([[3, 7, 7], [7, 1, 2], [1, 2, 3]])
    assert scores["answer_ranks"](Finder(), [None] * 3, blocks).tolist() == [1, 0, 100]

    class Passages:
        record_of_block = np.array([0, 0, 0, 1, 1, 2])

    wanted = [[2], [1], [9]]
    found = np.array([[0, 1, 3, 5], [5, -1, -1, 4], [0, 1, 2, 3]])
    assert scores["passage_ranks"](Passages(), wanted, found).tolist() == [2, 1, 100]


def test_paired_differences_of_held_out_sentences():
    scores, files = load("gpu_scores"), {}
    for state, values in {"realm": [1.0, 0.0, 1.0], "ict": [0.0, 0.0, 1.0], "frozen": [1.0, 1.0, 1.0]}.items():
        stream = io.BytesIO()
        np.savez(stream, hard=np.array(values), **({"utility": np.array(values)} if state != "ict" else {}))
        files[f"heldout_{state}.npz"] = stream.getvalue()
    paired = scores["held_out"](files)["paired"]
    assert paired["realm - ict"]["hard"]["mean"] == pytest.approx(1 / 3, abs=1e-4)
    assert "utility" not in paired["realm - ict"]
    assert paired["realm - frozen"]["utility"]["mean"] == pytest.approx(-1 / 3, abs=1e-4)


def test_a_task_stops_by_step_or_clock():
    tasks = load("gpu_tasks")

    class Task:
        def saves_at(self, step):
            return step % 10 == 0

        def is_over(self, step):
            return False

    class Stopping(tasks["Stops"], Task):
        pass

    task = Stopping()
    assert [step for step in range(25) if task.is_over(step)] == []
    task.last_step = 7
    assert [step for step in range(25) if task.is_over(step)] == [7]
    assert [step for step in range(25) if task.saves_at(step)] == [0, 7, 10, 20]
    task = Stopping()
    task.ends = 0.0  # long ago
    assert not task.is_over(0) and task.is_over(10)
