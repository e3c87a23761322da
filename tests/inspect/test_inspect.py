"""`realm inspect`: what is there is shown, what is damaged is named, and only the living look alive."""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
from etils import epath
from rich.console import Console

from realm_jax import heartbeat
from realm_jax.commands import inspect as command
from realm_jax.config import ConfigError
from realm_jax.heartbeat import Heartbeat
from realm_jax.index.store import IndexStore
from realm_jax.inspect import phase_states
from realm_jax.inspect.following import following
from realm_jax.inspect.look import look
from realm_jax.inspect.overview import overview
from realm_jax.training.metrics import MetricsWriter
from realm_jax.workdir import Workdir, write_json


def screens(found) -> str:
    """All screens at the width of a small terminal and of a wide one."""
    texts = []
    for width in (60, 80, 140):
        console = Console(width=width, file=open(os.devnull, "w"), record=True)
        console.print(overview(found), following(found, width))
        texts.append(console.export_text())
        assert max(map(len, texts[-1].splitlines())) <= width
    return "\n".join(texts)


def phase(found, name) -> dict:
    return next(phase for phase in found["phases"] + found["finetunings"] if phase["name"] == name)


def write_metrics(folder, steps, seconds_per_step=2.0, **values):
    folder.mkdir(parents=True, exist_ok=True)
    start = time.time() - seconds_per_step * max(steps)
    lines = [{"step": step, "time": start + seconds_per_step * step, "loss": 9 - step / 10, **values} for step in steps]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_beat(folder, **changes):
    beat = {"host": socket.gethostname(), "pid": os.getpid(), "started": None, "time": time.time(), "role": "trainer"}
    write_json(folder / heartbeat.FILE, {**beat, **changes})


@pytest.fixture
def run(pretrained_run, copy_run, tmp_path) -> Workdir:
    return copy_run(pretrained_run, tmp_path / "run")


@pytest.mark.parametrize("error", [FileNotFoundError, NotADirectoryError])
def test_a_checkpoint_that_is_pruned_meanwhile_is_left_out(run, monkeypatch, error):
    """The others are shown, and it is no problem."""
    folder, size = run.phase("pretrain") / "checkpoints", phase_states._size
    shutil.copytree(folder / "1", folder / "2")

    def pruned(checkpoint):
        if checkpoint.name == "1":
            raise error(os.fspath(checkpoint))
        return size(checkpoint)

    monkeypatch.setattr(phase_states, "_size", pruned)
    found = look(run.path)
    assert [c["step"] for c in phase(found, "pretrain")["checkpoints"]] == [2] and found["problems"] == []


def test_a_finished_run(run):
    found = look(run.path)
    assert found["problems"] == [] and found["config"]["name"] == "tiny"
    assert found["corpus"]["articles"] == 80 and found["corpus"]["blocks"] > 80
    assert [(p["name"], p["state"]) for p in found["phases"]] == [("ict", "done"), ("pretrain", "done")]
    assert [c["step"] for c in phase(found, "pretrain")["checkpoints"]] == [1]
    files = [file for file in pathlib.Path(run.path / "pretrain/checkpoints/1").rglob("*") if file.is_file()]
    assert phase(found, "pretrain")["checkpoints"][0]["bytes"] == sum(file.stat().st_size for file in files)
    ((version,),) = [index["versions"] for index in found["indexes"]]
    (stored,) = IndexStore(run.index_folder).versions()
    assert (version["step"], version["blocks"], version["search"]) == (4, found["corpus"]["blocks"], "exact")
    assert version["recall"] == stored.manifest["probe"] and version["users"] == []
    assert found["next"] == f"realm finetune --workdir={run.path} --dataset=cloze"
    assert "tiny" in screens(found)


def test_only_a_corpus(tiny_run):
    found = look(tiny_run.path)
    assert [phase["state"] for phase in found["phases"]] == ["not begun"]
    assert (found["indexes"], found["processes"], found["problems"]) == ([], [], [])
    assert found["next"] == f"realm run --workdir={tiny_run.path}"
    assert "no process has given a sign of life" in screens(found)


def test_a_running_phase_has_a_rate_and_a_time_left(new_run):
    run = new_run(pretrain={"steps": 100})
    write_metrics(run.phase("pretrain"), [10, 20, 30, 40], seconds_per_step=2.0)
    with Heartbeat(run.phase("pretrain"), role="trainer", steps=100):
        found = look(run.path)
    pretrain = phase(found, "pretrain")
    assert (pretrain["state"], pretrain["step"], pretrain["steps"]) == ("running", 40, 100)
    assert pretrain["steps_per_second"] == pytest.approx(0.5) and pretrain["eta_s"] == pytest.approx(120)
    assert pretrain["last"]["loss"] == 5
    assert found["next"] == f"realm inspect {run.path} --watch"
    assert "2:00 left" in screens(found) and "40/100" in screens(found)
    assert phase(look(run.path), "pretrain")["state"] == "stopped"


def test_a_pause_does_not_change_the_rate(new_run):
    run = new_run(pretrain={"steps": 100})
    write_metrics(run.phase("pretrain"), [10, 20, 30, 40])
    records = [json.loads(line) for line in (run.phase("pretrain") / "metrics.jsonl").read_text().splitlines()]
    for record in records[:2]:
        record["time"] -= 36000  # it was interrupted over night
    (run.phase("pretrain") / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    write_beat(run.phase("pretrain"))
    assert phase(look(run.path), "pretrain")["steps_per_second"] == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({}, "running"),
        ({"started": -1}, "died"),
        ({"host": "elsewhere"}, "running"),
        ({"host": "elsewhere", "time": time.time() - 3600}, "silent"),
        ({"ended": 1.0}, "stopped"),
    ],
)
def test_the_dead_do_not_look_alive(new_run, changes, state):
    run = new_run()
    write_metrics(run.phase("pretrain"), [1, 2])
    write_beat(run.phase("pretrain"), **changes)
    found = look(run.path)
    assert phase(found, "pretrain")["state"] == state
    assert (phase(found, "pretrain")["eta_s"] is not None) == (state == "running")
    assert ("--watch" in found["next"]) == (state == "running")
    screens(found)


def test_users_of_a_version_are_named_by_what_they_do(run):
    store = IndexStore(run.index_folder)
    version = store.latest()
    store.pin(version)
    write_json(
        version.folder / "pins" / "dead.json", {"host": socket.gethostname(), "pid": 2**22 + 1, "time": time.time()}
    )
    with Heartbeat(run.phase("pretrain"), role="trainer", steps=4), store.begin(9):
        found = look(run.path)
    ((version,),) = [index["versions"] for index in found["indexes"]]
    assert [(user["pid"], user["role"]) for user in version["users"]] == [(os.getpid(), "trainer")]
    ((draft,),) = [index["drafts"] for index in found["indexes"]]
    assert (draft["step"], draft["state"], draft["pid"]) == (9, "being built", os.getpid())
    assert "being built" in screens(found)


def test_processes_that_share_a_version(run):
    store = IndexStore(run.index_folder)
    with store.begin(9), store.shared_work(9, "abc") as work:
        work.agree({"ranges": 12})
        work.take("join")
        work.take_part(12, set())
        work.count_done()
        other = {"host": "elsewhere", "pid": 7, "started": 1.0, "time": time.time(), "done": 3}
        write_json(work.folder / "pins" / "elsewhere-7.json", other)
        for part in (1, 2, 3):
            work.hand_over(part, np.zeros(1))
        found = look(run.path)
    ((shared,),) = [index["shared"] for index in found["indexes"]]
    assert (shared["step"], shared["parts"], shared["done"]) == (9, 12, 4)
    shown = " ".join(screens(found).split())
    assert (
        f"step 9: 4 of 12 ranges of blocks are embedded; process 7 on elsewhere helps; process {os.getpid()}" in shown
    )


def test_two_builders_both_show(run):
    for pid in (os.getpid(), 2**22 + 1):
        beat = {"host": socket.gethostname(), "pid": pid, "started": None, "time": time.time(), "role": "index builder"}
        write_json(run.index_folder / f"heartbeat-{socket.gethostname()}-{pid}.json", beat)
    states = [(process["pid"], process["state"]) for process in look(run.path)["processes"]]
    assert sorted(states) == sorted([(os.getpid(), "runs"), (2**22 + 1, "died")])
    with Heartbeat(run.index_folder, of_many=True, role="index builder"):  # forgets the dead
        assert [process["state"] for process in look(run.path)["processes"]] == ["runs"]


def test_finetunings_and_evaluations(run):
    folder = run.phase("finetune/wq")
    write_json(folder / "config.json", {"dataset": "wq", "dev": "", "finetune": {}})
    scores = [{"step": 5, "exact_match": 0.1}, {"step": 10, "exact_match": 0.3}, {"step": 15, "exact_match": 0.3}]
    write_json(folder / "evaluations.json", {"evaluations": scores})
    interval = {"mean": 0.25, "low": 0.2, "high": 0.3, "n": 40}
    results = {"facts": {"dataset": "wq", "split": "test", "finetuning": "wq"}, "main": "fine-tuned", "questions": 40}
    write_json(run.path / "eval/wq/results.json", {**results, "systems": {"fine-tuned": {"exact_match": interval}}})
    write_json(run.path / "eval/heldout/recall.json", {"dataset": "held-out sentences", "recall": {}})
    found = look(run.path)
    assert phase(found, "finetune/wq")["best"] == {"step": 10, "exact_match": 0.3, "evaluations": 3}
    assert {result["kind"] for result in found["evaluations"]} == {"answers", "recall"}
    assert found["next"] == f"realm finetune --workdir={run.path} --dataset=wq"
    run.mark_done("finetune/wq", 15)
    found = look(run.path)
    assert found["next"] == f"realm eval --workdir={run.path} --dataset=wq"
    assert "25.0 (20.0 to 30.0)" in screens(found) and "30.0 (step 10)" in screens(found)


DAMAGE = ["", "{", "[]", "null", '{"step": ', "\0" * 64, "\xff\xfe", '"text"', "{}"]


@pytest.mark.parametrize("text", DAMAGE)
def test_every_file_may_be_damaged(run, text):
    write_metrics(run.phase("pretrain"), [1, 2])
    write_beat(run.phase("pretrain"), ended=1.0)
    write_json(run.path / "eval/wq/results.json", {})
    write_json(run.phase("finetune/wq") / "config.json", {"dataset": "wq"})
    write_json(run.phase("finetune/wq") / "evaluations.json", {"evaluations": []})
    files = [file for file in pathlib.Path(run.path).rglob("*.json*") if "checkpoints" not in str(file)]
    files += [pathlib.Path(run.phase("pretrain") / "DONE")]
    assert len(files) >= 9
    for file in files:
        if file.name == "tokenizer.json" or "examples" in file.parts:  # not read: the second is found again
            continue
        whole = file.read_bytes()
        file.write_bytes((text + "\n").encode("latin-1"))
        found = look(run.path)
        lines = file.suffix == ".jsonl" and text == "{}"  # an object, though it says nothing
        if not lines and file.name not in ("config.json", "results.json"):
            assert any(file.name in problem or file.parent.name in problem for problem in found["problems"]), file
        screens(found)
        file.write_bytes(whole)


def test_a_manifest_that_says_something_else_is_named(run):
    (version,) = IndexStore(run.index_folder).versions()
    manifest, described = version.folder / "manifest.json", version.manifest
    whole = manifest.read_bytes()
    manifest.write_text(json.dumps(described | {"num_blocks": described["num_blocks"] + 1}))
    found = look(run.path)
    manifest.write_bytes(whole)
    assert f"{manifest} differs from its checksum" in found["problems"][0]
    assert [index["versions"] for index in found["indexes"]] == [[]]


def test_torn_metrics_are_counted_and_the_rest_is_shown(new_run):
    run = new_run()
    write_metrics(run.phase("pretrain"), [1, 2])
    with (run.phase("pretrain") / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3, "lo\n{"step": 4, "time": ' + f"{time.time()}" + ', "loss": null}\n{"step": 5, "ti')
    found = look(run.path)
    assert phase(found, "pretrain")["step"] == 4
    assert found["problems"] == [f"{run.phase('pretrain') / 'metrics.jsonl'}: 1 damaged lines are left out (of 4)"]
    screens(found)


def test_a_folder_of_something_else_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="is no workdir"):
        look(epath.Path(tmp_path))


def test_markup_in_names_stays_text(new_run):
    run = new_run(name_of_folder := "[red]run[/red]")
    assert name_of_folder in screens(look(run.path)).replace("\n", "")


def test_a_run_that_is_written_meanwhile(new_run, tmp_path):
    run = new_run(pretrain={"steps": 50})
    writer = MetricsWriter(run.phase("pretrain"), "pretrain", 50, 0)
    for step in range(1, 50):
        writer.write(step, {"loss": 1.0 / step})
        assert phase(look(run.path), "pretrain")["step"] == step
    writer.close()


def python(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-m", "realm_jax", "inspect", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def test_the_command_takes_the_newest_run_and_imports_no_jax(run, tmp_path):
    shutil.copytree(run.path, tmp_path / "runs" / "only")
    code = "import sys; from realm_jax.commands import inspect as c; c.main(['--json'])\n"
    code += "assert not {'jax', 'flax', 'orbax', 'scann', 'matplotlib'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["workdir"] == "runs/only"
    done = python(cwd=tmp_path)
    out, _ = done.communicate(timeout=60)
    assert done.returncode == 0 and "runs/only" in out


def test_watch_follows_until_interrupted(run):
    process = python(run.path, "--watch", "--every_s=0.05", env={**os.environ, "FORCE_COLOR": "1"})
    try:
        seen = ""
        while "next:" not in seen:
            seen += process.stdout.readline()
        write_metrics(run.phase("pretrain"), [3], utility=0.123)
        deadline = time.monotonic() + 30
        while "0.123" not in seen and time.monotonic() < deadline:
            seen += process.stdout.readline()
        assert "trainer" in seen and "index builder" in seen and "0.123" in seen
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)
        assert process.returncode == 0
    finally:
        process.kill()


def test_flags_that_exclude_each_other(tiny_run):
    with pytest.raises(ConfigError, match="exclude each other"):
        command.main([str(tiny_run.path), "--watch", "--json"])
    with pytest.raises(ConfigError, match="positive"):
        command.main([str(tiny_run.path), "--watch", "--every_s=0"])
