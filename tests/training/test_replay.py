"""A replay trains by the record of the index versions in use: it has the run's bits, and others by another record."""

import json

import pytest
from etils import epath

from realm_jax.commands.replay import main
from realm_jax.config import ConfigError, RunError
from realm_jax.data.prepare import open_prepared
from realm_jax.index.recorded import RecordedIndex, adoptions
from realm_jax.index.store import IndexStore
from realm_jax.training import phases, pretrain, replay

STEPS = 5
ADOPTED = {0: 0, 3: 2, 5: 4}
SETTINGS = {"pretrain": {"steps": STEPS, "index_refresh_every": 2, "checkpoint_every": 3, "log_every": 1}}


class Killed(Exception):
    """Stands for a crash."""


@pytest.fixture(scope="module")
def run(tiny_run, copy_run, tmp_path_factory):
    workdir = copy_run(tiny_run, tmp_path_factory.mktemp("replayed") / "run", **SETTINGS)
    pretrain.train(workdir, open_prepared(workdir))
    return workdir


def adopted(step: int, trainer_step: int, **more) -> dict:
    return {"event": "adopted", "step": step, "trainer_step": trainer_step, **more}


def test_it_has_the_bits_of_the_run(run, capsys):
    assert adoptions(IndexStore(run.index_folder).history()) == ADOPTED
    main([f"--workdir={run.path}"])
    assert f"the same bits in all arrays after {STEPS} steps" in capsys.readouterr().out
    losses = [
        [json.loads(line)["loss"] for line in (folder / "pretrain" / "metrics.jsonl").read_text().splitlines()]
        for folder in (run.path, run.path / "replay")
    ]
    assert losses[0] == losses[1] and len(losses[0]) == STEPS
    with pytest.raises(ConfigError, match="is past step 3: pass another --into, or delete it"):
        replay.replay(run, run.path / "replay", 3)


def test_it_goes_on_where_it_was_broken_off(run, tmp_path, monkeypatch):
    folder, adopt = epath.Path(tmp_path), RecordedIndex.adopt

    def killed(self, trainer_step):
        if trainer_step == 4:  # the state of step 3 has another version in use than the first
            raise Killed
        return adopt(self, trainer_step)

    monkeypatch.setattr(RecordedIndex, "adopt", killed)
    with pytest.raises(Killed):
        replay.replay(run, folder, STEPS)
    monkeypatch.undo()
    ours = replay.replay(run, folder, STEPS)
    assert replay.differing(ours, phases.last_params(run, "pretrain")) == []
    lines = (folder / "pretrain" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, STEPS + 1))


def test_another_record_gives_other_bits_and_the_command_fails(run, copy_run, tmp_path):
    other = copy_run(run, tmp_path / "run")
    file = other.index_folder / "history.jsonl"
    file.write_text(file.read_text().replace('"trainer_step": 3', '"trainer_step": 4'))
    assert adoptions(IndexStore(other.index_folder).history()) == {0: 0, 4: 2, 5: 4}
    with pytest.raises(RunError, match=r"arrays differ after 5 steps \(embedder"):
        main([f"--workdir={other.path}", f"--into={tmp_path / 'replay'}"])


def test_what_a_restart_forgets():
    before = [adopted(0, 0, at_start=True), adopted(10, 15), adopted(20, 27)]
    assert adoptions(before) == {0: 0, 15: 10, 27: 20}
    # Killed after step 27, it goes on from the checkpoint of step 25, whose next batch version 10 has chosen.
    assert adoptions([*before, adopted(20, 25, at_start=True)]) == {0: 0, 15: 10, 26: 20}
    assert adoptions([{"event": "published", "step": 3}, *before, adopted(0, 0, at_start=True)]) == {0: 0}


def test_bad_input(run, copy_run, tiny_run, tmp_path):
    with pytest.raises(ConfigError, match="--steps=-1: pass a step that the run has saved"):
        main([f"--workdir={run.path}", "--steps=-1"])
    with pytest.raises(ConfigError, match="has no checkpoint of step 77, or keeps it no longer"):
        main([f"--workdir={run.path}", "--steps=77", f"--into={tmp_path / 'replay'}"])
    unrecorded = copy_run(run, tmp_path / "run")
    (unrecorded.index_folder / "history.jsonl").unlink()
    with pytest.raises(ConfigError, match="has no record of the versions that training began with"):
        main([f"--workdir={unrecorded.path}"])
    with pytest.raises(ConfigError, match="has no checkpoint yet: train first"):
        main([f"--workdir={tiny_run.path}"])
