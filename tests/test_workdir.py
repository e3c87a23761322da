"""The run's folder: its config is written once, files appear whole, and the newest run is found."""

import dataclasses
import errno
import os
import pathlib
import stat

import pytest
from etils import epath

from realm_jax import config_json
from realm_jax import workdir as workdir_lib
from realm_jax.config import ConfigError
from realm_jax.workdir import CHANGEABLE, Workdir, read_json, write_json, write_text


def test_config_comes_back(tiny_config, tmp_path):
    Workdir.create(tmp_path / "run", tiny_config)
    assert Workdir.open(tmp_path / "run").config == tiny_config
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["config.json"]


def test_another_config_is_refused_once_the_run_has_made_something(tiny_config, tmp_path):
    workdir = Workdir.create(tmp_path / "run", tiny_config)
    other = dataclasses.replace(tiny_config, seed=7, pretrain=dataclasses.replace(tiny_config.pretrain, steps=9))
    Workdir.create(tmp_path / "run", other)  # say, after a typing error in --corpus
    assert Workdir.open(tmp_path / "run").config == other
    workdir.tokenizer_file.write_text("{}")
    Workdir.create(tmp_path / "run", other)
    with pytest.raises(ConfigError, match=r"another config \(seed: 0 here, 7 there; pretrain.steps: 4 here, 9 there\)"):
        Workdir.create(tmp_path / "run", tiny_config)
    assert Workdir.open(tmp_path / "run").config == other


@pytest.mark.parametrize(("section", "field"), [(s, f) for s, fields in CHANGEABLE.items() for f in fields])
def test_how_a_device_goes_about_a_step_may_change(tiny_config, tmp_path, section, field):
    """But nothing else at the same time."""
    workdir = Workdir.create(tmp_path / "run", tiny_config)
    workdir.tokenizer_file.write_text("{}")
    value = True if isinstance(getattr(getattr(tiny_config, section), field), bool) else 2
    other = dataclasses.replace(
        tiny_config, **{section: dataclasses.replace(getattr(tiny_config, section), **{field: value})}
    )
    assert other != tiny_config
    assert Workdir.create(tmp_path / "run", other).config == other == Workdir.open(tmp_path / "run").config
    with pytest.raises(ConfigError, match=r"another config \(seed: 7 here, 0 there\)"):
        Workdir.create(tmp_path / "run", dataclasses.replace(tiny_config, seed=7))


def test_an_invalid_config_writes_nothing(tiny_config, tmp_path):
    with pytest.raises(ConfigError, match="name must be a plain word"):
        Workdir.create(tmp_path / "run", dataclasses.replace(tiny_config, name="a/b"))
    assert not (tmp_path / "run").exists()


def test_a_folder_without_config_is_no_workdir(tmp_path):
    with pytest.raises(ConfigError, match="is no workdir .no config.json.: pass --workdir=DIR"):
        Workdir.open(tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "config.json is damaged"),
        ('{"colour": 1}', "another version of realm_jax"),
        ("\xff", "is damaged"),
        ("[]", "is damaged .no JSON object"),
        ("[" * 100_000, "is damaged"),
    ],
)
def test_a_damaged_config_names_its_file(tmp_path, text, message):
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(ConfigError, match=message):
        Workdir.open(tmp_path)


def test_every_field_survives_json(tiny_config):
    assert config_json.from_json(config_json.to_json(tiny_config)) == tiny_config


def test_a_pipe_and_a_link_are_written_to_and_not_replaced(tmp_path):
    read_end, write_end = os.pipe()
    write_text(pathlib.Path(f"/dev/fd/{write_end}"), "a")
    assert os.read(read_end, 9) == b"a"
    os.mkfifo(tmp_path / "fifo")
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    write_text(tmp_path / "fifo", "b")
    assert os.read(reader, 9) == b"b" and stat.S_ISFIFO(os.stat(tmp_path / "fifo").st_mode)
    for number in (read_end, write_end, reader):
        os.close(number)
    (tmp_path / "link").symlink_to("target")
    for text in "ab":
        write_text(tmp_path / "link", text)
    assert (tmp_path / "link").is_symlink() and (tmp_path / "target").read_text() == "b"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fifo", "link", "target"]


def test_done_is_seen_by_others(tiny_config, tmp_path):
    workdir = Workdir.create(tmp_path, tiny_config)
    assert not workdir.is_done("ict")
    workdir.mark_done("ict", 5)
    assert Workdir.open(tmp_path).is_done("ict") and not workdir.is_done("pretrain")
    assert read_json(workdir.phase("ict") / "DONE") == {"step": 5}


def test_newest_run(tiny_config, tmp_path):
    with pytest.raises(ConfigError, match="no run under .*: make one with `make pretrain`"):
        workdir_lib.newest(tmp_path)
    for name, age in (("a", 30), ("b", 20), ("c", 10)):
        file = Workdir.create(tmp_path / name, tiny_config).config_file
        os.utime(file, (1e9 - age, 1e9 - age))
    assert workdir_lib.newest(tmp_path).name == "c"
    write_json(epath.Path(tmp_path) / "a" / "summary.json", {})
    assert workdir_lib.newest(tmp_path).name == "a"


def test_a_name_that_is_not_utf_8_is_refused_before_checkpoints_are(tiny_config, tmp_path):
    with pytest.raises(ConfigError, match=r"caf\\xe9: its name, or the locale, is not UTF-8: pass another --workdir"):
        Workdir.create(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9"), tiny_config)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("text", ['{"a": "\udce9"}', "\ud800"])
def test_json_keeps_names_that_are_not_utf_8(tmp_path, text):
    write_json(epath.Path(tmp_path) / "a.json", {"name": text})
    assert read_json(epath.Path(tmp_path) / "a.json") == {"name": text}
    (tmp_path / "a.json").read_text(encoding="utf-8")


def test_the_same_input_by_another_spelling_is_no_other_config(tiny_config, tmp_path, monkeypatch):
    def config(knowledge, **changes):
        corpus = dataclasses.replace(tiny_config.corpus, knowledge=knowledge)
        return dataclasses.replace(tiny_config, corpus=corpus, **changes)

    (tmp_path / "a").mkdir()
    (tmp_path / "b").symlink_to("a")
    monkeypatch.chdir(tmp_path / "a")
    workdir = Workdir.create(tmp_path / "run", config("docs.jsonl"))
    assert workdir.config.corpus.knowledge == str(tmp_path / "a" / "docs.jsonl")
    workdir.tokenizer_file.write_text("{}")
    monkeypatch.chdir(tmp_path)
    for spelling in ("a/docs.jsonl", "./a/../b/docs.jsonl", str(tmp_path / "b" / "docs.jsonl"), "a/docs.jsonl/"):
        again = Workdir.create(tmp_path / "run", config(spelling, tracker="tensorboard"))
        assert again.config == workdir.config == Workdir.open(tmp_path / "run").config
    with pytest.raises(ConfigError, match="corpus.knowledge: .*/docs.jsonl' here, .*/a/docs.jsonl' there"):
        Workdir.create(tmp_path / "run", config("docs.jsonl"))


def test_names_in_a_config_are_no_paths(tiny_config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for init in ("random", "converted", "owner/name", "asset:minilm"):
        assert workdir_lib.with_absolute_paths(dataclasses.replace(tiny_config, init=init)).init == init
    (tmp_path / "owner" / "name").mkdir(parents=True)
    for init in ("owner/name", "./owner/name"):
        config = workdir_lib.with_absolute_paths(dataclasses.replace(tiny_config, init=init))
        assert config.init == str(tmp_path / "owner" / "name")


def test_a_full_disk_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    file = epath.Path(tmp_path) / "summary.json"
    write_json(file, {"old": 1})

    def full(self, *args, **kwargs):
        pathlib.Path(self).touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(type(file), "write_bytes", full)
    with pytest.raises(ConfigError, match="cannot write .*summary.json: No space left on device: free some space"):
        write_text(file, "new")
    monkeypatch.undo()
    assert read_json(file) == {"old": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["summary.json"]
