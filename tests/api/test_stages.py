"""The stages of a run as functions: what they show, and what they refuse."""

import logging

import pytest

import realm_jax
from realm_jax import console


@pytest.fixture
def done(tuned_run, tmp_path, copy_run):
    """A run with a finished fine-tuning."""
    workdir = copy_run(tuned_run, tmp_path / "run")
    workdir.mark_done("finetune/cloze", 1)
    return workdir


def test_a_stage_shows_its_log_as_a_command_does(done, monkeypatch, capsys):
    monkeypatch.setattr(console.LOGGER, "handlers", [])  # as in a program that has set up nothing
    realm_jax.finetune(done.path, "cloze").close()
    assert "finetune/cloze: is done" in capsys.readouterr().out


def test_a_program_with_a_handler_of_its_own_gets_the_log(done, monkeypatch, capsys):
    records: list[logging.LogRecord] = []
    own = logging.Handler()
    own.emit = records.append
    monkeypatch.setattr(console.LOGGER, "handlers", [own])
    realm_jax.finetune(done.path, "cloze").close()
    assert "is done" not in capsys.readouterr().out
    assert any("is done" in record.getMessage() for record in records)


def test_an_unknown_preset_or_setting_is_refused(pretrained_run):
    with pytest.raises(realm_jax.ConfigError, match="no preset 'orca': use orqa or realmpp"):
        realm_jax.finetune(pretrained_run.path, preset="orca")
    with pytest.raises(realm_jax.ConfigError, match="epoch is no setting of fine-tuning"):
        realm_jax.finetune(pretrained_run.path, epoch=2)
