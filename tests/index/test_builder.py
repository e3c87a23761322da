"""The builder in this process: it takes the newest checkpoint, skips those it missed, and gives up cleanly."""

import dataclasses
import os
import re
import signal
import threading
import time

import jax
import numpy as np
import pytest

from realm_jax import signals
from realm_jax.checkpoints import Checkpoints
from realm_jax.checksums import Damaged
from realm_jax.commands import builder as command
from realm_jax.config import ConfigError
from realm_jax.data.prepare import open_prepared
from realm_jax.index import follow_trainer
from realm_jax.index.embed_blocks import embed_corpus
from realm_jax.index.index_builder import IndexBuilder
from realm_jax.index.store import IndexStore
from realm_jax.training import phases
from realm_jax.workdir import write_json


@pytest.fixture(scope="module")
def params(tiny_run):
    return phases.first_params(tiny_run)


def scaled(params, factor):
    return {"embedder": jax.tree.map(lambda x: x * np.float32(factor), params["embedder"])}


def save(workdir, params, *steps):
    """Embedder checkpoints as the trainer writes them; step n has the parameters times 1 + n."""
    with Checkpoints(workdir.phase("pretrain")) as checkpoints:
        for step in steps:
            checkpoints.save(step, scaled(params, 1 + step), {"count": np.int32(step)}, {"position": step})


def test_newest_checkpoint_is_built_and_the_missed_ones_are_skipped(new_run, params):
    workdir = new_run()
    save(workdir, params, 1, 2, 3)
    workdir.mark_done("pretrain", 3)
    follow_trainer.follow(workdir)
    store = IndexStore(workdir.index_folder)
    assert [version.step for version in store.versions()] == [3]
    corpus = open_prepared(workdir).knowledge
    expected = np.empty((corpus.num_blocks, workdir.config.model.projection_dim), np.float32)
    embed_corpus(workdir.config, scaled(params, 4)["embedder"], corpus, expected)
    version = store.latest()
    np.testing.assert_allclose(version.load_embeddings(), expected, atol=1e-5)
    assert version.manifest["segment_hashes"] == corpus.segment_hashes
    assert 0 <= version.manifest["probe"]["plain_recall@1"] <= version.manifest["probe"]["plain_recall@20"] <= 1
    follow_trainer.follow(workdir)  # nothing new: it ends
    assert len(store.versions()) == 1


def test_builder_follows_the_checkpoints_until_the_trainer_is_done(new_run, params, capfd):
    workdir = new_run(index={"keep_versions": 2})
    store = IndexStore(workdir.index_folder)
    thread = threading.Thread(target=follow_trainer.follow, args=(workdir,), daemon=True)
    thread.start()
    for step in (0, 2, 4):
        save(workdir, params, step)
        wait_for(lambda step=step: store.latest() is not None and store.latest().step == step)
        assert thread.is_alive()
    workdir.mark_done("pretrain", 4)
    thread.join(timeout=30)
    assert not thread.is_alive()
    assert [version.step for version in store.versions()] == [2, 4]  # pruned to the newest two
    events = [(event["event"], event.get("step")) for event in store.history()]
    assert [step for event, step in events if event == "published"] == [0, 2, 4]
    assert len(re.findall(r"^index refresh interval: \d+ s, 2 steps$", capfd.readouterr().out, flags=re.M)) == 2


def wait_for(condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("saved", [(), (3,)])
def test_what_others_build_without_its_checkpoint_is_left_to_them(new_run, params, saved):
    """As version 0 of a run that is being made by its trainers, or a step that was pruned since."""
    workdir = new_run(index={"wait_timeout_s": 1.0})
    save(workdir, params, *saved)
    other = {"host": "elsewhere", "pid": 7, "started": 1.0, "time": time.time()}
    for step in (0, 7):
        folder = workdir.index_folder / "work" / f"{step:08d}-abc"
        write_json(folder / "pins" / "elsewhere-7.json", other)
        write_json(folder / "join.000.json", other)
    with pytest.raises(ConfigError, match="no new checkpoint in"):
        follow_trainer.follow(workdir)
    assert [version.step for version in IndexStore(workdir.index_folder).versions()] == list(saved)


@pytest.mark.parametrize("error", [FileNotFoundError("gone"), ConfigError("damaged")])
def test_a_checkpoint_pruned_while_it_is_read_gives_way_to_a_newer_one(new_run, params, monkeypatch, error):
    workdir = new_run()
    save(workdir, params, 1)
    workdir.mark_done("pretrain", 2)
    restore = Checkpoints.restore_params

    def overtaken(self, step, like):
        if step == 1:
            save(workdir, params, 2)
            raise error
        return restore(self, step, like)

    monkeypatch.setattr(Checkpoints, "restore_params", overtaken)
    follow_trainer.follow(workdir)
    assert [version.step for version in IndexStore(workdir.index_folder).versions()] == [2]


def test_a_step_pruned_while_the_steps_are_listed_is_no_error(new_run, params, monkeypatch):
    workdir = new_run()
    save(workdir, params, 1)
    with Checkpoints(workdir.phase("pretrain")) as checkpoints:
        reload, failures = checkpoints._manager.reload, [FileNotFoundError("step 0")] * 3

        def unlucky():
            if failures:
                raise failures.pop()
            reload()

        monkeypatch.setattr(checkpoints._manager, "reload", unlucky)
        assert checkpoints.latest_step() == 1 and not failures


def test_a_damaged_newest_checkpoint_is_an_error(new_run, params, monkeypatch):
    workdir = new_run()
    save(workdir, params, 1)

    def damaged(self, step, like):
        raise ConfigError("damaged")

    monkeypatch.setattr(Checkpoints, "restore_params", damaged)
    with pytest.raises(ConfigError, match="damaged"):
        follow_trainer.follow(workdir)


def test_a_damaged_checkpoint_is_waited_over(new_run, params, monkeypatch, capsys):
    """Until a newer one comes, or the trainer has made the same one again; the last one is an error."""
    workdir = new_run(index={"keep_versions": 5})
    store, damaged = IndexStore(workdir.index_folder), {1, 2}
    restore = Checkpoints.restore_params

    def read(self, step, like):
        if step in damaged:
            raise Damaged(f"checkpoint {step} is damaged")
        return restore(self, step, like)

    monkeypatch.setattr(Checkpoints, "restore_params", read)
    monkeypatch.setattr(follow_trainer, "SKIP_S", 0.5)
    save(workdir, params, 1)
    thread = threading.Thread(target=follow_trainer.follow, args=(workdir,), daemon=True)
    thread.start()
    wait_for(lambda: "checkpoint 1 is damaged; the index builder waits" in capsys.readouterr().out)
    damaged.remove(1)
    wait_for(lambda: store.latest() is not None)
    save(workdir, params, 2, 3)
    wait_for(lambda: store.latest().step == 3)
    workdir.mark_done("pretrain", 3)
    thread.join(timeout=30)
    assert not thread.is_alive() and 2 not in [version.step for version in store.versions()]
    damaged.add(4)
    save(workdir, params, 4)
    with pytest.raises(Damaged, match="checkpoint 4"):
        follow_trainer.follow(workdir)


def test_a_trainer_that_never_comes_has_a_deadline(new_run):
    workdir = new_run(index={"wait_timeout_s": 0.5})
    with pytest.raises(ConfigError, match="no new checkpoint in .*/pretrain for 0 s: start the trainer"):
        follow_trainer.follow(workdir)


def test_giving_up_in_mid_build_leaves_nothing(new_run, params, between_batches):
    workdir = new_run(index={"embed_batch_tokens": 512})
    data, store = open_prepared(workdir), IndexStore(workdir.index_folder)
    seen = []

    def stop():
        seen.append([folder.name for folder in workdir.index_folder.glob("step-*")])
        if len(seen) == 2:
            raise signals.Ended(signal.SIGTERM)

    between_batches(stop)
    with pytest.raises(signals.Ended):
        IndexBuilder(workdir.config, data, store).build(7, params["embedder"])
    assert len(seen[-1]) == 1 and seen[-1][0].startswith("step-00000007-")
    assert not list(workdir.index_folder.iterdir()) and store.latest() is None


def config_with(tiny_run, device):
    return dataclasses.replace(tiny_run.config, index=dataclasses.replace(tiny_run.config.index, device=device))


def test_device_is_checked_and_never_replaced_silently(tiny_run):
    command.choose_device(config_with(tiny_run, "cpu"))
    with pytest.raises(ConfigError, match="index.device=accelerator, but JAX runs on cpu here: install"):
        command.choose_device(config_with(tiny_run, "accelerator"))
    with pytest.raises(ConfigError, match="index.device=inline: the trainer builds the index itself"):
        command.choose_device(config_with(tiny_run, "inline"))


def test_cores_and_priority_are_yielded(tiny_run, monkeypatch):
    calls = {}
    monkeypatch.setattr(os, "nice", lambda by: calls.update(nice=by))
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3}, raising=False)
    monkeypatch.setattr(os, "sched_setaffinity", lambda pid, cores: calls.update(cores=cores), raising=False)
    command.yield_cores(tiny_run.config)
    assert not calls
    index = dataclasses.replace(tiny_run.config.index, builder_nice=19, builder_threads=1)
    command.yield_cores(dataclasses.replace(tiny_run.config, index=index))
    assert calls == {"nice": 19, "cores": [3]}
