"""TensorBoard by default; an offline Weights & Biases run holds what was written, over phases and restarts."""

import dataclasses
import json
import os
import pathlib
import struct
import subprocess
import sys
import time

import pytest
from etils import epath
from wandb.proto.wandb_internal_pb2 import Record

from realm_jax.commands import cli
from realm_jax.config import Config, ConfigError
from realm_jax.config_json import from_json, to_json
from realm_jax.training.metrics import MetricsWriter
from realm_jax.training.tracker import TensorBoard, open_tracker
from realm_jax.workdir import Workdir

BLOCK, BLOCK_HEADER, FILE_HEADER = 32768, 7, 7


def records(file: pathlib.Path) -> list[Record]:
    """Reads a `.wandb` file: LevelDB's log format (32 KiB blocks of checksum, length, type, data) of protobufs."""
    data, found, part, at = file.read_bytes(), [], b"", FILE_HEADER
    assert data[:4] == b":W&B"
    while at + BLOCK_HEADER <= len(data):
        room = BLOCK - at % BLOCK
        if room < BLOCK_HEADER:
            at += room
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + BLOCK_HEADER])
        if at + BLOCK_HEADER + length > len(data):
            break  # wandb's own process still writes it
        part += data[at + BLOCK_HEADER : at + BLOCK_HEADER + length]
        at += BLOCK_HEADER + length
        if kind in (1, 4):  # a whole record, or the last part of one
            found.append(Record.FromString(part))
            part = b""
    return found


def history(records: list[Record]) -> list[dict]:
    rows = []
    for record in records:
        if record.HasField("history"):
            items = {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.history.item}
            rows.append({name: value for name, value in items.items() if not name.startswith("_")})
    return rows


@pytest.fixture
def workdir(tmp_path, tiny_config, monkeypatch):
    """A run that asks for Weights & Biases, which stays offline and writes nowhere else."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for kind in ("CACHE", "CONFIG", "DATA"):
        monkeypatch.setenv(f"WANDB_{kind}_DIR", str(tmp_path / "home"))
    return Workdir.create(tmp_path / "second-run", dataclasses.replace(tiny_config, tracker="wandb"))


def write(workdir, phase, first_step, steps, loss=1.5):
    writer = MetricsWriter(workdir.phase(phase), phase.split("/")[0], 10, first_step)
    for step in steps:
        writer.write(step, {"loss": loss, "utility": float("nan")})
    writer.close()


def runs(workdir) -> list[list[Record]]:
    """The records of all runs, once each is written to its end: its service may be behind on a busy machine."""
    files = sorted(
        pathlib.Path(workdir.path).glob("wandb/offline-run-*/*.wandb"), key=lambda file: file.stat().st_mtime
    )
    deadline = time.monotonic() + 30
    while not all(any(record.HasField("exit") for record in records(file)) for file in files):
        assert time.monotonic() < deadline, "a run has no end"
        time.sleep(0.1)
    return [records(file) for file in files]


def test_an_offline_run_holds_every_metric_and_the_whole_config(workdir):
    write(workdir, "pretrain", 0, [2, 4], loss=1.5)
    (run,) = runs(workdir)
    assert history(run) == [{"pretrain/step": step, "pretrain/loss": 1.5} for step in (2, 4)]
    (told,) = [record.run for record in run if record.HasField("run")]
    assert (told.project, told.display_name, told.run_group) == ("realm_jax", "second-run", "tiny")
    config = {item.key: json.loads(item.value_json) for item in told.config.update}
    assert from_json({key: config[key] for key in to_json(workdir.config)}) == workdir.config
    axes = {metric.glob_name or metric.name: metric.step_metric for r in run if (metric := r.metric).ByteSize()}
    assert axes["pretrain/*"] == "pretrain/step"
    assert not list(workdir.phase("pretrain").glob("tensorboard/*"))


def test_phases_and_restarts_go_on_with_one_run_and_send_no_step_twice(workdir):
    write(workdir, "ict", 0, [5, 10])
    write(workdir, "pretrain", 0, [2, 4, 6])
    write(workdir, "pretrain", 4, [6, 8], loss=7.5)
    told = [[record.run for record in run if record.HasField("run")][0] for run in runs(workdir)]
    assert {run.run_id for run in told} == {json.loads((workdir.path / "wandb.json").read_text())["id"]}
    assert {run.display_name for run in told} == {"second-run"}
    rows = [row for run in runs(workdir) for row in history(run)]
    pretraining = [(2, 1.5), (4, 1.5), (6, 1.5), (8, 7.5)]
    expected = [{"ict/step": step, "ict/loss": 1.5} for step in (5, 10)]
    expected += [{"pretrain/step": step, "pretrain/loss": loss} for step, loss in pretraining]
    assert sorted(map(sorted, map(dict.items, rows))) == sorted(map(sorted, map(dict.items, expected)))


def test_a_finetuning_belongs_to_the_run_of_its_workdir(workdir):
    write(workdir, "finetune/wq", 0, [3])
    (run,) = runs(workdir)
    assert history(run) == [{"finetune/wq/step": 3, "finetune/wq/loss": 1.5}]


def test_tensorboard_is_the_default_and_serves_what_belongs_to_no_run(tmp_path, tiny_config):
    workdir = Workdir.create(tmp_path / "run", tiny_config)
    old = {key: value for key, value in to_json(tiny_config).items() if key != "tracker"}
    workdir.config_file.write_text(json.dumps(old))  # as written before there was a choice
    assert Workdir.open(workdir.path).config == tiny_config
    for folder in (workdir.phase("ict"), epath.Path(tmp_path) / "tagger"):
        tracker = open_tracker(folder, "ict", 0, 0)
        assert isinstance(tracker, TensorBoard)
        tracker.close()
        assert list((folder / "tensorboard").glob("events*"))


def test_a_run_may_change_its_tracker_and_nothing_else(tmp_path, tiny_config):
    workdir = Workdir.create(tmp_path / "run", tiny_config)
    workdir.tokenizer_file.write_text("{}")
    Workdir.create(tmp_path / "run", dataclasses.replace(tiny_config, tracker="wandb"))
    assert Workdir.open(tmp_path / "run").config.tracker == "wandb"
    with pytest.raises(ConfigError, match=r"another config \(seed: 5 here, 0 there\)"):
        Workdir.create(tmp_path / "run", dataclasses.replace(tiny_config, tracker="wandb", seed=5))


@pytest.mark.parametrize("folder", ["wandb", "other"])
def test_without_the_package_the_error_names_the_extra(tmp_path, monkeypatch, capsys, folder):
    (tmp_path / folder).mkdir()  # `wandb/` is what the package itself leaves behind, and no package
    monkeypatch.chdir(tmp_path)
    elsewhere = [path for path in sys.path if not (pathlib.Path(path) / "wandb" / "__init__.py").exists()]
    monkeypatch.setattr(sys, "path", [str(tmp_path), *elsewhere])
    for name in [name for name in sys.modules if name.split(".")[0] == "wandb"]:
        monkeypatch.delitem(sys.modules, name)
    config = dataclasses.replace(Config(), corpus=dataclasses.replace(Config().corpus, knowledge="asset:mini"))
    config.check()
    with pytest.raises(SystemExit):
        cli.run(dataclasses.replace(config, tracker="wandb").check)
    assert "pip install 'realm_jax[wandb]'" in capsys.readouterr().err


def test_without_a_key_the_error_says_how_to_go_on(workdir):
    code = "import sys; from etils import epath; from realm_jax.training.tracker import open_tracker\n"
    code += "from realm_jax.commands import cli; cli.run(lambda: open_tracker(epath.Path(sys.argv[1]), 'ict', 0, 0))"
    command = [sys.executable, "-c", code, str(workdir.phase("ict"))]
    nowhere = {**os.environ, "WANDB_MODE": "online", "WANDB_BASE_URL": "http://127.0.0.1:9", "HOME": str(workdir.path)}
    done = subprocess.run(command, env=nowhere, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)
    assert done.returncode == 2 and "error: Weights & Biases:" in done.stderr
    assert "WANDB_MODE=offline" in done.stderr
