"""Paths mean what a shell and a person mean by them, in every folder, whatever their letters."""

import os
import pathlib
import shlex
import urllib.parse

import hypothesis.strategies as st
import pytest
from hypothesis import given

from realm_jax import paths
from realm_jax.commands import cli, corpus
from realm_jax.config import ConfigError

LETTERS = st.characters(min_codepoint=1, exclude_characters="\x00", exclude_categories=("Cs",))
ODD = ["a b", "it's", 'a "b"', "a\nb", "a#b", "a%20b", "a:b", "Łódź", "a\\b", "-a", "$HOME", "*"]
PARTS = st.one_of(st.text(LETTERS, min_size=1, max_size=9), st.sampled_from(ODD))
LOCAL = st.lists(PARTS.map(lambda part: part.replace("/", "_")), min_size=1, max_size=4).map("/".join)


@given(LOCAL)
def test_expanding_twice_is_expanding_once_and_names_the_same_file(path):
    path = "/" + path
    assert paths.expand(paths.expand(path)) == paths.expand(path)
    assert os.path.normpath(paths.expand(path)) == os.path.normpath(path)
    assert paths.absolute(path + "///") == paths.absolute(path) == os.path.abspath(path)
    assert paths.expand("file://" + urllib.parse.quote(path)) == paths.expand(path)


@given(LOCAL, st.sampled_from(["gs://", "s3://", "https://"]))
def test_addresses_and_names_stay(path, scheme):
    assert paths.expand(f"{scheme}b/{path}") == f"{scheme}b/{path}".rstrip("/")
    assert paths.absolute(f"{scheme}b/x/") == f"{scheme}b/x"
    for name in paths.NAMES:
        assert paths.expand(name + path) == paths.absolute(name + path) == name + path


@given(st.binary(min_size=1, max_size=12).filter(lambda name: b"\x00" not in name))
def test_what_is_printed_of_a_name_is_text(name):
    shown = paths.printable(os.fsdecode(name))
    assert shown.encode()
    assert shown == name.decode("utf-8", "backslashreplace")


def test_home_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert paths.expand("~/x/") == str(tmp_path / "x") and paths.expand("~") == str(tmp_path)
    assert paths.expand("~root/x") == os.path.expanduser("~root/x")
    assert paths.expand("a/~/b") == "a/~/b" and paths.expand("owner/name") == "owner/name" and paths.expand("") == ""
    assert paths.absolute("a/../b") == str(tmp_path / "b")
    with pytest.raises(ConfigError, match="~nobody-here/x: no home folder is known for it: write the whole path"):
        paths.expand("~nobody-here/x")

    def no_home(self):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(pathlib.Path, "expanduser", no_home)
    with pytest.raises(ConfigError, match="write the whole path"):
        paths.expand("~/x")


@given(LOCAL)
def test_a_printed_command_has_the_path_as_one_word(path):
    assert shlex.split(f"run --workdir={paths.quoted(path)}") == ["run", f"--workdir={path}"]


def test_two_spellings_are_the_same_place(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    assert paths.are_same(str(tmp_path / "real"), str(tmp_path / "link"))
    assert not paths.are_same(str(tmp_path / "real"), str(tmp_path))
    assert paths.are_same("asset:mini", "asset:mini") and not paths.are_same("asset:mini", "tfds:squad")


FLAGS = {
    "corpus": ["--source", "--out", "--data-dir", "--tokenizer", "--tagger"],
    "show": ["--html"],
    "retag": ["--tagger", "--out", "--tokenizer"],
    "tag": ["--out"],
    "finetune": ["--workdir", "--dataset", "--dev", "--data-dir"],
    "ablate": ["--experiment", "--corpus", "--text", "--dataset", "--test", "--data-dir", "--out"],
    "eval": ["--workdir", "--dataset", "--data-dir", "--predictions"],
    "builder": ["--workdir"],
    "update": ["--workdir", "--add"],
    "compact": ["--workdir"],
    "serve": ["--workdir"],
    "convert": ["--vocab", "--config", "--corpus"],
    "run": ["--workdir", "--config", "--corpus"],
}


@pytest.mark.parametrize("command", FLAGS)
def test_every_path_flag_is_read_by_that_function(command, capsys):
    import importlib

    module = importlib.import_module(f"realm_jax.commands.{command}")
    with pytest.raises(SystemExit):
        module.main(["--help"])
    shown = capsys.readouterr().out
    for flag in FLAGS[command]:
        assert f"{flag} PATH" in shown, flag


def test_an_empty_path_where_one_is_needed_is_refused(capsys):
    with pytest.raises(SystemExit) as stop:
        corpus.main(["--source=x", "--out="])
    assert stop.value.code == 2 and "--out: is empty: pass a path" in capsys.readouterr().err


def test_workdir_and_config_take_a_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        "from realm_jax.config import Config, CorpusConfig\n"
        'get_config = lambda: Config(name="word", init="~/bert", corpus=CorpusConfig(knowledge="~/a.jsonl"))\n'
    )
    (tmp_path / "bert").mkdir()
    workdir = cli.new_workdir("Test.", ["--config=~/mine.py", "--workdir=~/a b/"])
    assert str(workdir.path) == str(tmp_path / "a b") and workdir.config_file.exists()
    assert workdir.config.init == str(tmp_path / "bert") and not (tmp_path / "~").exists()
    assert workdir.config.corpus.knowledge == str(tmp_path / "a.jsonl")
