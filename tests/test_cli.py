"""The shared command line: experiment file, overrides, workdir."""

import pytest

from realm_jax.commands import cli
from realm_jax.config import ConfigError, RunError
from realm_jax.workdir import Workdir

EXPERIMENT = """
from realm_jax.config import Config, CorpusConfig

def get_config():
    return Config(name="word", seed=3, corpus=CorpusConfig(knowledge="asset:mini"))
"""


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(EXPERIMENT)
    return "--config=mine.py"


def test_defaults_come_from_the_file_and_flags_override(experiment, tmp_path):
    flags = [experiment, "--pretrain.learning_rate=1e-4", "--pretrain.index-refresh-every", "7", "--corpus=texts"]
    config = cli.new_workdir("Test.", flags).config
    assert config.seed == 3 and config.pretrain.learning_rate == 1e-4 and config.pretrain.index_refresh_every == 7
    assert config.corpus.knowledge == str(tmp_path / "texts")


def test_default_workdir_is_named_after_the_config(experiment, tmp_path):
    assert str(cli.new_workdir("Test.", [experiment]).path) == "runs/word"
    assert (tmp_path / "runs" / "word" / "config.json").exists()
    assert str(cli.new_workdir("Test.", [experiment, "--name=other"]).path) == "runs/other"


def test_an_existing_workdir_brings_its_own_config(experiment):
    made = cli.new_workdir("Test.", [experiment, "--workdir=w", "--seed=9"])
    made.tokenizer_file.write_text("{}")
    assert cli.new_workdir("Test.", ["--workdir=w"]).config.seed == 9
    with pytest.raises(ConfigError, match="w was made with another config .seed: 3 here, 9 there."):
        cli.new_workdir("Test.", [experiment, "--workdir=w"])
    with pytest.raises(ConfigError, match="seed: 4 here, 9 there"):
        cli.new_workdir("Test.", ["--workdir", "w", "--seed=4"])


def test_reading_commands_take_the_newest_run_and_name_it(experiment, capsys):
    with pytest.raises(ConfigError, match="no run under runs/"):
        cli.existing("")
    cli.new_workdir("Test.", [experiment])
    assert cli.existing("").config.name == "word"
    assert "workdir: runs/word (the newest; --workdir chooses another)" in capsys.readouterr().out
    assert str(cli.existing("runs/word").path) == "runs/word"


def test_unknown_experiment_names_the_known_ones(experiment, tmp_path):
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "first.py").write_text(EXPERIMENT)
    with pytest.raises(
        ConfigError, match="no experiment file best.py: pass --config=FILE.py .in experiments/: .*first.py"
    ):
        cli.new_workdir("Test.", ["--config=best.py"])
    (tmp_path / "empty.py").write_text("")
    with pytest.raises(ConfigError, match="empty.py defines no get_config"):
        cli.new_workdir("Test.", ["--config=empty.py"])


def test_a_config_with_an_error_writes_no_folder(experiment, tmp_path):
    with pytest.raises(ConfigError, match="num_candidates"):
        cli.new_workdir("Test.", [experiment, "--pretrain.num_candidates=1"])
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("flag", ["--pretrain.step=5", "--pretrain.steps=many", "--index.search=best"])
def test_a_malformed_flag_exits_with_2_and_names_the_option(experiment, capsys, flag, tmp_path):
    with pytest.raises(SystemExit) as error:
        cli.new_workdir("Test.", [experiment, flag])
    assert error.value.code == 2
    assert flag.split("=")[0] in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("error", "status", "line"), [(ConfigError("wrong"), 2, "error: wrong"), (RunError("so"), 1, "so")]
)
def test_errors_are_one_line_and_a_status(capsys, error, status, line):
    def main():
        raise error

    with pytest.raises(SystemExit) as stop:
        cli.run(main)
    assert stop.value.code == status and capsys.readouterr().err == line + "\n"
    cli.run(lambda: None)


def test_other_errors_are_not_hidden():
    with pytest.raises(KeyError):
        cli.run(lambda: {}["missing"])


def test_existing_opens_the_given_folder(tiny_run):
    assert cli.existing(str(tiny_run.path)).config == Workdir.open(tiny_run.path).config
