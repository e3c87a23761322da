"""What a user can get wrong: one line that names file, line and fix, a non-zero status, and nothing half-written."""

import errno
import json
import os
import re

import numpy as np
import pytest

from realm_jax.checkpoints import Checkpoints
from realm_jax.commands import cli, pretrain
from realm_jax.config import ConfigError
from realm_jax.data import segment
from realm_jax.data.corpus import Corpus
from realm_jax.data.prepare import open_prepared
from realm_jax.index import scann
from realm_jax.index.index_builder import IndexBuilder
from realm_jax.index.store import IndexStore
from realm_jax.training import phases
from tests import other_corpus
from tests.damage import flip_a_bit

EXPERIMENT = """
from realm_jax import config_json
from realm_jax.config import *

def get_config():
    return config_json.from_json({values!r})
"""
GOOD = {"id": "1", "title": "Paris", "text": "Paris is a city. The Seine flows through it."}


@pytest.fixture
def fails(tiny_config, tmp_path, monkeypatch, capsys):
    """Runs a command in an empty folder; returns its one line on stderr, after checking it."""
    from realm_jax import config_json

    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.py").write_text(EXPERIMENT.format(values=config_json.to_json(tiny_config)))

    def run(main, *flags, status=2):
        with pytest.raises(SystemExit) as stop:
            cli.run(lambda: main(list(flags)))
        assert stop.value.code == status
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1 and lines[0].startswith("error: "), lines
        return lines[0]

    return run


def leftovers(workdir):
    """Files of a workdir without its config and its lock."""
    files = [f for f in workdir.rglob("*") if f.is_file() and f.name not in ("config.json", "trainer.lock")]
    return sorted(str(file.relative_to(workdir)) for file in files)


BAD_LINES = {
    "empty": ("", r"bad.jsonl: is empty: pass another file"),
    "blank text": (json.dumps(GOOD | {"text": " "}), r"bad.jsonl: holds no text"),
    "not JSON": (json.dumps(GOOD) + "\n{'id': 2}", r"bad.jsonl:2: not JSON: correct or delete it"),
    "deep JSON": (json.dumps(GOOD) + "\n" + "[" * 100_000, r"bad.jsonl:2: not JSON: correct or delete it"),
    "no field": (json.dumps(GOOD) + '\n\n{"id": "2", "title": "B"}', r"bad.jsonl:3: without text: correct"),
    "long title": (
        json.dumps(GOOD | {"title": "Paris " * 60}),
        r"bad.jsonl:1: the title of record '1' .*: shorten it or raise --corpus.block_len_tokens",
    ),
    "same id": (json.dumps(GOOD) + "\n" + json.dumps(GOOD), r"bad.jsonl:2: id '1' is there twice"),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_a_bad_corpus_file(fails, tmp_path, case):
    text, message = BAD_LINES[case]
    file = tmp_path / "bad.jsonl"
    file.write_text(text)
    line = fails(pretrain.main, "--config=tiny.py", "--workdir=w", "--corpus=bad.jsonl")
    assert re.search(message, line), line
    assert leftovers(tmp_path / "w") == []


def test_after_the_mistake_is_mended_the_same_workdir_serves(fails, tmp_path):
    (tmp_path / "texts").mkdir()
    assert "no such file or folder" in fails(pretrain.main, "--config=tiny.py", "--workdir=w", "--corpus=text")
    assert "has no .txt or .md file" in fails(pretrain.main, "--config=tiny.py", "--workdir=w", "--corpus=texts")
    cli.new_workdir("Test.", ["--config=tiny.py", "--workdir=w"])


def test_unknown_experiment_and_workdir(fails, tmp_path):
    assert "no experiment file nanoo.py: pass --config=FILE.py" in fails(pretrain.main, "--config=nanoo.py")
    assert "no experiment file experiments/nanoo.py" in fails(pretrain.main, "--config=experiments/nanoo.py")
    (tmp_path / "config.json").write_text("{}")
    assert "config.json is no experiment file, which are Python" in fails(pretrain.main, "--config=config.json")
    assert "num_candidates counts the null block" in fails(
        pretrain.main, "--config=tiny.py", "--pretrain.num_candidates=1"
    )
    assert not (tmp_path / "runs").exists()


def test_unknown_option_exits_with_2_and_is_named(fails, capsys):
    with pytest.raises(SystemExit) as stop:
        pretrain.main(["--config=tiny.py", "--pretrain.learning_rat=1"])
    assert stop.value.code == 2 and "--pretrain.learning_rat" in capsys.readouterr().err


def test_a_workdir_of_another_config(fails, new_run):
    path = new_run().path
    line = fails(pretrain.main, f"--workdir={path}", "--pretrain.steps=9")
    assert "was made with another config (pretrain.steps: 9 here, 4 there): pass another --workdir" in line


def test_a_corpus_that_changed_under_an_existing_index(fails, new_run):
    workdir = indexed(new_run())
    other_corpus.change(workdir.knowledge_folder)
    line = fails(pretrain.main, f"--workdir={workdir.path}")
    assert "was built over another corpus: its segment 0 was" in line and "delete this index version" in line
    assert not workdir.is_done("pretrain") and len(list(workdir.index_folder.glob("step-*"))) == 1


@pytest.mark.parametrize("column", segment.COLUMNS)
def test_a_flipped_bit_in_a_corpus(new_run, column):
    folder = new_run().knowledge_folder
    file = folder / "segment-00000" / f"{column}.bin"
    flip_a_bit(file)
    with pytest.raises(ConfigError, match="segment-00000: differs from its checksum: build"):
        Corpus.open(folder)


def indexed(workdir):
    """The workdir with index version 0."""
    data, store = open_prepared(workdir), IndexStore(workdir.index_folder)
    params = phases.first_params(workdir)["embedder"]
    IndexBuilder(workdir.config, data, store).build(0, params, embedded_by={"phase": "init", "step": 0})
    return workdir


def test_a_truncated_scann_file(fails, new_run, monkeypatch):
    monkeypatch.setattr(scann, "BRUTE_FORCE_LIMIT", 32)
    workdir = indexed(new_run(index={"search": "scann", "device": "cpu"}))
    files = sorted(workdir.index_folder.glob("step-*/scann/*"), key=lambda file: file.stat().length)
    os.truncate(files[-1], files[-1].stat().length - 1)
    line = fails(pretrain.main, f"--workdir={workdir.path}")
    assert f"{files[-1]} has " in line and "is set aside: the same command again builds one" in line
    assert IndexStore(workdir.index_folder).latest() is None


def test_no_space_for_the_corpus(fails, monkeypatch, tmp_path):
    class FullFile:
        def __init__(self, *args):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *exception):
            pass

        def write(self, data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(segment, "open", FullFile, raising=False)
    line = fails(pretrain.main, "--config=tiny.py", "--workdir=w")
    assert line.startswith("error: w/corpus") and "no disk space left: free some or pass another --workdir" in line
    assert leftovers(tmp_path / "w") == []


def test_no_space_for_an_index_version(fails, new_run, monkeypatch):
    def full(descriptor, start, length):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    workdir = new_run()
    monkeypatch.setattr(os, "posix_fallocate", full)
    line = fails(pretrain.main, f"--workdir={workdir.path}")
    assert "no space left for index version" in line and "free some and run again" in line
    assert not list(workdir.index_folder.glob("*"))


def test_a_damaged_corpus_file(fails, new_run):
    workdir = new_run()
    file = workdir.knowledge_folder / "segment-00000" / "tokens.bin"
    os.truncate(file, file.stat().length - 2)
    assert f"{file}: is not the file of" in fails(pretrain.main, f"--workdir={workdir.path}")


def test_a_checkpoint_of_another_shape(fails, new_run):
    workdir = indexed(new_run())
    with Checkpoints(workdir.phase("pretrain")) as checkpoints:
        checkpoints.save(1, phases.first_params(workdir), {"count": np.int32(1)}, {"position": 1})
    line = fails(pretrain.main, f"--workdir={workdir.path}")
    assert "pretrain/checkpoints/1 does not fit this config or is damaged" in line and "another --workdir" in line
