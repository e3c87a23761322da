"""The whole command, as a user gives it: two processes, the summary, and the same command again."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]


def run(workdir, cache, *arguments) -> subprocess.CompletedProcess:
    """`realm run` with one device, in a process of its own."""
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "1", "REALM_JAX_CACHE": str(cache)}
    command = [sys.executable, "-m", "realm_jax", "run", f"--workdir={workdir}", *arguments]
    return subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=600)


@pytest.fixture(scope="module")
def mini(tmp_path_factory, cache):
    """A finished run of experiments/mini.py and what it printed, on stdout and on stderr."""
    workdir = tmp_path_factory.mktemp("runs") / "mini"
    done = run(workdir, cache, "--config=experiments/mini.py")
    assert done.returncode == 0, done.stderr[-3000:]
    return workdir, done.stdout, done.stderr


def setting(mini, name) -> int:
    """A pre-training setting of the run."""
    return json.loads((mini[0] / "config.json").read_text())["pretrain"][name]


def test_three_states_are_judged_on_the_same_sentences(mini):
    summary = json.loads((mini[0] / "summary.json").read_text())
    assert list(summary["states"]) == ["before ICT", "after ICT", "after REALM"]
    for state in summary["states"].values():
        for name in ("loss_retrieved", "loss_random", "loss_null", "accuracy_retrieved", "utility"):
            assert state[name]["n"] == setting(mini, "eval_examples")
        for name in ("plain_recall@1", "plain_recall@5", "plain_recall@20"):
            assert 0 <= state[name]["mean"] <= 1 and state[name]["half_width"] >= 0
    counts = {state["answer_retrieved"]["n"] for state in summary["states"].values()}
    assert len(counts) == 1


def test_ict_and_pretraining_learn(mini):
    states = json.loads((mini[0] / "summary.json").read_text())["states"]
    before, after = states["before ICT"], states["after ICT"]
    gain = after["plain_recall@1"]["mean"] - before["plain_recall@1"]["mean"]
    assert gain > after["plain_recall@1"]["half_width"] + before["plain_recall@1"]["half_width"]
    assert states["after REALM"]["loss_retrieved"]["mean"] < after["loss_retrieved"]["mean"]


def test_the_builder_published_and_the_trainer_adopted(mini):
    index = json.loads((mini[0] / "summary.json").read_text())["index"]
    assert index["published_steps"][0] == 0
    assert index["published_steps"][-1] == setting(mini, "steps")  # the last weights are indexed
    assert index["published_steps"] == sorted(set(index["published_steps"]))
    assert index["adopted"][0] == {"step": 0, "trainer_step": 0}
    assert len(index["adopted"]) >= 2
    assert all(adopted["step"] <= adopted["trainer_step"] for adopted in index["adopted"])
    assert index["index_wait_seconds"] < 0.5


def test_memory_of_both_processes_was_seen(mini):
    peaks = json.loads((mini[0] / "summary.json").read_text())["peak_memory_mib"]
    if sys.platform == "linux":
        assert peaks["together"] >= max(peaks["trainer"], peaks["builder"]) > 50


def test_the_report_shows_three_sentences_and_the_next_command(mini):
    workdir, stdout, _ = mini
    report = (workdir / "report.md").read_text()
    assert report.count("(null block)") == 3 and report.count("answer: *") == 3 and r"\[MASK\]" in report
    assert "next: realm finetune" in stdout


def test_the_report_is_one_page_with_every_curve(mini):
    workdir, *_ = mini
    page = (workdir / "report.html").read_text()
    curves = ["ict-loss", "loss", "utility", "null-share", "recall", "index-age", "waits"]
    assert page.count("<svg") == len(curves) and "<img" not in page
    assert sorted(file.stem for file in (workdir / "plots").iterdir()) == sorted(curves)
    history = [json.loads(line) for line in (workdir / "index" / "history.jsonl").read_text().splitlines()]
    assert all("plain_recall@5" in event["probe"] for event in history if event["event"] == "published")


def test_all_signs_of_life_say_that_the_run_ended(mini):
    files = list(mini[0].rglob("heartbeat*.json"))
    assert {str(file.parent.relative_to(mini[0])) for file in files} == {".", "ict", "pretrain", "index"}
    assert all("ended" in json.loads(file.read_text()) for file in files)


def test_what_people_read_is_short_and_says_whose_it_is(mini):
    workdir, stdout, stderr = mini
    lines = stdout.splitlines()
    assert len(lines) < 100 and max(map(len, lines)) <= 120
    assert lines[0].startswith("run: mini") and any(str(workdir) in line for line in lines[:5])
    assert re.match(r"time: \d+ seconds, as measured on 2 CPU cores", lines[2]), lines[2]
    versions = {int(step): mark for mark, step in re.findall(r"^(.*)index version of step (\d+)", stdout, re.M)}
    assert versions[0] == "" and {mark for step, mark in versions.items() if step} == {"index builder: "}
    assert len(re.findall(r"^(?:ict|pretrain): \d+/", stdout, re.M)) <= 2 + sum(seconds_of(workdir)) / 20
    assert stdout.count("[MASK]") and stdout.count("answer:") == 3 and stdout.count("after REALM") == 1
    assert lines[-1].startswith("next: ")
    assert "InitializeLog" not in stderr and not re.search(r"^(index builder: )?I0000", stderr, re.M)


def seconds_of(workdir) -> list[float]:
    """Of the run's parts, each."""
    return list(json.loads((workdir / "seconds.json").read_text()).values())


def test_every_window_of_steps_is_logged_once(mini):
    metrics = [json.loads(line) for line in (mini[0] / "pretrain" / "metrics.jsonl").read_text().splitlines()]
    steps = [line["step"] for line in metrics]
    assert steps == sorted(set(steps)) and steps[-1] == setting(mini, "steps")
    assert {"loss", "accuracy", "null_accuracy", "null_loss", "utility", "null_share"} <= set(metrics[-1])


def test_the_same_command_again_changes_nothing(mini, cache):
    def contents() -> dict[pathlib.Path, bytes]:
        return {file: file.read_bytes() for file in mini[0].rglob("*") if file.is_file()}

    before = contents()
    again = run(mini[0], cache, "--config=experiments/mini.py")
    assert again.returncode == 0, again.stderr[-3000:]
    assert f"{mini[0]} is finished" in again.stdout and "next: realm finetune" in again.stdout
    assert contents() == before


def test_eval_scores_every_state(mini, cache):
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "1", "REALM_JAX_CACHE": str(cache)}
    command = [sys.executable, "-m", "realm_jax", "eval", f"--workdir={mini[0]}", "--only=recall"]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-3000:]
    recall = json.loads((mini[0] / "eval" / "heldout" / "recall.json").read_text())["recall"]
    assert list(recall) == ["first weights", "after ICT", "after REALM"]


@pytest.mark.slow
def test_a_folder_of_texts_is_a_corpus(tmp_path, cache):
    folder = tmp_path / "texts"
    (folder / "rivers").mkdir(parents=True)
    articles = (REPOSITORY / "realm_jax" / "data" / "mini_corpus.jsonl").read_text().splitlines()[:60]
    for i, article in enumerate(map(json.loads, articles)):
        if i % 2:
            (folder / "rivers" / f"{i}.md").write_text(f"# {article['title']}\n\n{article['text']}\n")
        else:
            (folder / f"{article['title'].replace('/', ' ')}.txt").write_text(article["text"])
    steps = ["--ict.steps=4", "--pretrain.steps=8", "--model.vocab_size=1200"]
    done = run(tmp_path / "run", cache, "--config=experiments/mini.py", f"--corpus={folder}", *steps)
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "run" / "summary.json").exists()
