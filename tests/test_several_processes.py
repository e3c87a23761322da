"""Two processes that train together over loopback give what one process gives, agree on every decision, and resume."""

import dataclasses
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import numpy as np
import pytest

from realm_jax import config_json, signals
from realm_jax.config import ConfigError
from realm_jax.data.prepare import open_prepared
from realm_jax.index.embed_blocks import embed_corpus
from realm_jax.index.store import IndexStore
from realm_jax.workdir import Workdir, read_json, write_json
from tests.damage import flip_a_bit

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
DEVICES = 4  # of all processes
DEADLINE_S = 600
SETTINGS = {
    "ict": {"steps": 4, "checkpoint_every": 2},
    "pretrain": {
        "steps": 8,
        "index_refresh_every": 2,
        "checkpoint_every": 2,
        "log_every": 1,
        "eval_examples": 16,
    },
    "index": {
        "search": "exact",
        "device": "cpu",
        "max_age_steps": 2,
        "max_age_policy": "pause",
        "wait_timeout_s": 300.0,
    },
    "finetune": {
        "epochs": 1,
        "batch_size": 6,  # one process's share has padding
        "train_questions": 48,
        "dev_questions": 8,
        "log_every": 1,
        "eval_every": 3,
        "reader_blocks": 24,
        "question_len_tokens": 32,
    },
}


SMALL_RANGES = """
import sys
from realm_jax.index import embed_blocks
embed_blocks.RANGE_TOKENS = 1500
from realm_jax.__main__ import main
main(sys.argv[1:])
"""


EMBED = """
import sys
import numpy as np
from etils import epath
from realm_jax import console, processes
from realm_jax.data.prepare import open_prepared
from realm_jax.index.embed_together import embed_together
from realm_jax.training import phases
from realm_jax.workdir import Workdir
console.set_up()
processes.join()
workdir, blocks = Workdir.open(sys.argv[1]), np.arange(5, 300, 2)
params, folder = phases.first_params(workdir)["embedder"], epath.Path(workdir.path / "together")
corpus = open_prepared(workdir).knowledge
found = embed_together(workdir.config, params, corpus, folder, "first", blocks=blocks, range_tokens=800)
assert (found is None) != processes.is_first() and not folder.exists()
if processes.is_first():
    np.save(workdir.path / "found.npy", found)
"""


class Processes:
    """One process or several that join, with DEVICES devices in all.

    Args:
        words: of the command line.
        code: what they run; by default `realm` with corpora of several ranges.
    """

    def __init__(
        self,
        count: int,
        cache: pathlib.Path,
        *words: str,
        log: pathlib.Path,
        code: str = SMALL_RANGES,
        devices: int = DEVICES,
    ):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        self.logs = [log.with_suffix(f".{i}") for i in range(count)]
        self.processes = []
        for i, file in enumerate(self.logs):
            environment = {
                **os.environ,
                "JAX_NUM_CPU_DEVICES": str(devices // count),
                "REALM_JAX_CACHE": str(cache),
            }
            if count > 1:
                environment["REALM_JAX_DISTRIBUTED"] = f"localhost:{port},{count},{i}"
            command = [sys.executable, "-c", code, *words]
            with file.open("w") as out:
                self.processes.append(
                    subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=out, stderr=subprocess.STDOUT)
                )

    def wait(self) -> list[int]:
        """Exit statuses."""
        deadline = time.monotonic() + DEADLINE_S
        try:
            return [process.wait(timeout=max(1, deadline - time.monotonic())) for process in self.processes]
        finally:
            for process in self.processes:
                process.kill()

    def said(self) -> str:
        return "\n".join(f"--- process {i}\n{log.read_text()[-4000:]}" for i, log in enumerate(self.logs))


def wait_for(started: Processes, condition: Callable[[], bool]) -> None:
    """Waits while all of them run."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, started.said()
        assert all(process.poll() is None for process in started.processes), started.said()
        time.sleep(0.01)


@pytest.fixture(scope="module")
def launch(cache, tmp_path_factory):
    """Runs a command to its end on a number of processes and checks the exit statuses."""
    folder = tmp_path_factory.mktemp("logs")

    def run(count, name, workdir, *flags):
        started = Processes(count, cache, name, f"--workdir={workdir.path}", *flags, log=folder / f"{name}-{count}")
        assert started.wait() == [0] * count, started.said()

    return run


def run_with(settings: dict, like: Workdir, path: pathlib.Path) -> Workdir:
    """A workdir with the corpus of another and other settings."""
    shutil.copytree(like.path, path)
    changed = {name: dataclasses.replace(getattr(like.config, name), **values) for name, values in settings.items()}
    workdir = Workdir(path, dataclasses.replace(like.config, **changed))
    write_json(workdir.config_file, config_json.to_json(workdir.config))
    return workdir


def losses(workdir, phase: str) -> dict[int, float]:
    lines = (workdir.phase(phase) / "metrics.jsonl").read_text().splitlines()
    return {record["step"]: record["loss"] for record in map(json.loads, lines)}


def adopted(store: IndexStore) -> list[tuple[int, int]]:
    return [(event["trainer_step"], event["step"]) for event in store.history() if event["event"] == "adopted"]


@pytest.fixture(scope="module")
def runs(tiny_run, launch, tmp_path_factory):
    """The same run by one process, and by two."""
    made = {}
    for count in (1, 2):
        made[count] = run_with(SETTINGS, tiny_run, tmp_path_factory.mktemp("processes") / f"{count}")
        launch(count, "run", made[count])
    return made


@pytest.fixture(scope="module")
def finetunings(runs, launch, tmp_path_factory):
    """One run, fine-tuned by one process, and by two."""
    made = {}
    for count in (1, 2):
        made[count] = run_with(SETTINGS, runs[1], tmp_path_factory.mktemp("finetunings") / f"{count}")
        launch(count, "finetune", made[count], "--dataset=cloze")
    return made


def assert_equal_losses(alone: dict[int, float], together: dict[int, float]) -> None:
    assert alone.keys() == together.keys() and alone
    np.testing.assert_allclose([*together.values()], [*alone.values()], rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["ict", "pretrain"])
def test_two_hosts_have_the_losses_of_one(runs, phase):
    assert_equal_losses(*(losses(runs[count], phase) for count in (1, 2)))


@pytest.mark.slow
def test_two_hosts_fine_tune_like_one(finetunings):
    assert_equal_losses(*(losses(finetunings[count], "finetune/cloze") for count in (1, 2)))
    evaluations = [read_json(finetunings[count].phase("finetune/cloze") / "evaluations.json") for count in (1, 2)]
    assert evaluations[0] == evaluations[1]


@pytest.mark.slow
def test_index_versions_are_adopted_at_the_same_steps(runs):
    alone, together = (adopted(IndexStore(runs[count].index_folder)) for count in (1, 2))
    assert alone == together and len(alone) > 2


@pytest.mark.slow
def test_two_hosts_embed_together(tiny_run, cache, tmp_path):
    """Version 0 and every refresh, where the trainer is its own builder; a version has what its own tower embeds."""
    workdir = run_with({}, tiny_run, tmp_path / "run")
    started = Processes(2, cache, "pretrain", f"--workdir={workdir.path}", log=tmp_path / "log")
    assert started.wait() == [0, 0], started.said()
    for log in started.logs:
        assert "other processes embedded" in (said := log.read_text()) or "blocks for another process" in said
    store, corpus = IndexStore(workdir.index_folder), open_prepared(workdir).knowledge
    assert [event["step"] for event in store.history() if event["event"] == "published"] == [0, 2, 4]
    assert not (workdir.index_folder / "work").exists()
    for version in store.versions():
        found, expected = version.load_embeddings(), np.empty((corpus.num_blocks, 16), np.float32)
        embed_corpus(workdir.config, {"block": version.load_tower()}, corpus, expected)
        np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.slow
def test_two_hosts_set_a_damaged_checkpoint_and_damaged_versions_aside(tiny_run, cache, tmp_path):
    """The checkpoint before is taken, its versions are built again, and training ends as before."""
    workdir = run_with({}, tiny_run, tmp_path / "run")
    phase, ended = workdir.phase("pretrain"), []
    for name in ("whole", "mended"):
        started = Processes(2, cache, "pretrain", f"--workdir={workdir.path}", log=tmp_path / name)
        assert started.wait() == [0, 0], started.said()
        versions = {version.step: version for version in IndexStore(workdir.index_folder).versions()}
        ended.append((losses(workdir, "pretrain"), {step: v.manifest["weights"] for step, v in versions.items()}))
        if name == "whole":
            (phase / "DONE").unlink()
            saved = pathlib.Path(phase) / "checkpoints" / "4" / "embedder"
            arrays = [file for file in saved.rglob("*") if file.parent.name == "d"]
            assert arrays
            for array in arrays:
                flip_a_bit(array)
            for step in (0, 2):
                flip_a_bit(versions[step].folder / "embeddings.npy")
    assert ended[0] == ended[1] and sorted(versions) == [0, 2, 4]
    first, second = (" ".join(log.read_text().split()) for log in started.logs)
    assert "Traceback" not in first + second
    assert "checkpoints/4 is damaged" in first and "resuming from step 2 of 4" in first and "from step 2" in second
    assert (phase / "checkpoints" / "4").exists() and len(list((phase / "damaged").iterdir())) == 1
    assert first.count("it is set aside, and built again") == 2  # the first process alone looks


@pytest.mark.slow
def test_two_hosts_embed_for_an_evaluation(tiny_run, cache, tmp_path):
    """Some of the blocks; with one device for each process the bits are the same."""
    found = []
    for count in (1, 2):
        workdir = run_with({}, tiny_run, tmp_path / str(count))
        how = {"log": tmp_path / f"log-{count}", "code": EMBED, "devices": count}
        started = Processes(count, cache, str(workdir.path), **how)
        assert started.wait() == [0] * count, started.said()
        found.append(np.load(workdir.path / "found.npy"))
    assert found[0].shape == (148, 16) and "ranges of blocks for another process" in started.logs[1].read_text()
    np.testing.assert_array_equal(*found)


@pytest.mark.slow
def test_one_signal_stops_all_hosts_and_one_host_goes_on(runs, tiny_run, launch, cache, tmp_path):
    workdir = run_with(SETTINGS, tiny_run, tmp_path / "stopped")
    started = Processes(2, cache, "run", f"--workdir={workdir.path}", log=tmp_path / "run")
    metrics = workdir.phase("pretrain") / "metrics.jsonl"
    wait_for(started, lambda: metrics.exists() and metrics.read_text().count("\n") >= 3)
    started.processes[1].send_signal(signal.SIGTERM)
    assert started.wait() == [143, 143], started.said()
    assert all("stopped by SIGTERM at step" in log.read_text() for log in started.logs)
    assert not workdir.is_done("pretrain")
    launch(1, "run", workdir)
    assert_equal_losses(losses(runs[1], "pretrain"), losses(workdir, "pretrain"))


INDEXING = """
import sys, time
from realm_jax import signals
from realm_jax.training import pretrain

def build(workdir, data):
    print("indexing", flush=True)
    time.sleep(60)

pretrain.build_first_index = build
from realm_jax.__main__ import main
with signals.ending():
    main(sys.argv[1:])
"""


@pytest.mark.slow
def test_a_signal_ends_a_host_before_training_too(tiny_run, cache, tmp_path):
    """JAX's distributed service must not swallow it."""
    workdir = run_with({}, tiny_run, tmp_path / "run")
    started = Processes(2, cache, "pretrain", f"--workdir={workdir.path}", log=tmp_path / "log", code=INDEXING)
    wait_for(started, lambda: all("indexing" in log.read_text() for log in started.logs))
    for process in started.processes:
        process.send_signal(signal.SIGTERM)
    ended = time.monotonic()
    assert started.wait() == [143, 143], started.said()
    assert time.monotonic() - ended < signals.GRACE_S + 4


@pytest.mark.slow
def test_a_signal_to_one_host_ends_all_that_wait_for_an_index(tiny_run, cache, tmp_path):
    waiting = {name: SETTINGS[name] for name in ("pretrain", "index")}
    workdir = run_with(waiting, tiny_run, tmp_path / "run")  # and no builder
    started = Processes(2, cache, "pretrain", f"--workdir={workdir.path}", log=tmp_path / "log")
    metrics = workdir.phase("pretrain") / "metrics.jsonl"
    wait_for(started, lambda: metrics.exists() and '"step": 2,' in metrics.read_text())
    time.sleep(2)  # until it waits for a version that is younger than version 0 at step 3
    started.processes[1].send_signal(signal.SIGTERM)
    ended = time.monotonic()
    assert started.wait() == [143, 143], started.said()
    assert time.monotonic() - ended < 60 < SETTINGS["index"]["wait_timeout_s"]
    assert all("stopped by SIGTERM at step 2; its state is saved" in log.read_text() for log in started.logs)


@pytest.mark.slow
def test_a_host_that_dies_ends_the_others(tiny_run, cache, tmp_path):
    long = {
        **SETTINGS,
        "pretrain": {**SETTINGS["pretrain"], "steps": 100_000, "index_refresh_every": 0},
        "index": {"search": "exact", "max_age_steps": 0},
    }
    workdir = run_with(long, tiny_run, tmp_path / "killed")
    started = Processes(2, cache, "run", f"--workdir={workdir.path}", log=tmp_path / "run")
    wait_for(started, (workdir.phase("pretrain") / "metrics.jsonl").exists)
    started.processes[1].kill()
    statuses = started.wait()
    assert statuses[0] not in (0, None) and statuses[1] == -signal.SIGKILL


@pytest.mark.parametrize("value", ["yes", "host,2,0", "host:1,2", "host:1,two,0"])
def test_a_malformed_variable_is_refused(monkeypatch, value):
    from realm_jax import processes

    monkeypatch.setenv(processes.VARIABLE, value)
    with pytest.raises(ConfigError, match="ADDRESS:PORT,PROCESSES,NUMBER"):
        processes.join()
