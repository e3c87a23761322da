"""The longest batch has the shapes of those that training makes."""

import dataclasses

import jax
import numpy as np
import pytest

from realm_jax import parallel
from realm_jax.data.prepare import open_prepared
from realm_jax.data.questions import datasets
from realm_jax.index.store import IndexStore
from realm_jax.plan import longest_batch
from realm_jax.training import phases
from realm_jax.training.finetune_task import FinetuneTask
from realm_jax.training.finetuning import Finetuning
from realm_jax.training.ict_task import IctTask
from realm_jax.training.pretrain_task import PretrainTask

DEVICES = 8


@pytest.fixture(autouse=True)
def rows_as_on_accelerators(monkeypatch):
    """A CPU has one long row instead."""
    monkeypatch.setattr("realm_jax.training.room._is_flat", lambda: False)


def first_batch(task):
    stream = task.stream({})
    try:
        return stream.take(parallel.replicate(task.init()))
    finally:
        stream.close()


def check_that_only_rows_are_missing(made: dict, longest: dict) -> None:
    """A batch of the corpus has the longest batch's shapes, but for the third axis of packed arrays: its rows."""
    assert made.keys() == longest.keys()
    for name, (shape, dtype) in made.items():
        most, expected = longest[name]
        assert dtype == expected
        if len(most) == 4 and name.count(".") == 2:
            assert 0 < shape[2] <= most[2]
            shape, most = (shape[:2] + shape[3:]), (most[:2] + most[3:])
        assert shape == most, name


def shapes(batch) -> dict:
    found = jax.tree_util.tree_leaves_with_path(batch)
    return {jax.tree_util.keystr(path): (leaf.shape, np.dtype(leaf.dtype)) for path, leaf in found}


def test_of_ict(tiny_run):
    config, data = tiny_run.config, open_prepared(tiny_run)
    made = first_batch(IctTask(config, data, phases.first_params(tiny_run, ("embedder",))))
    check_that_only_rows_are_missing(shapes(made), shapes(longest_batch.of_phase(config, "ict", DEVICES)))


@pytest.mark.parametrize("micro_batch", [0, 1])
def test_of_pretraining(pretrained_run, micro_batch):
    """But for the slots of the masks, of which a batch has as many as it needs."""
    pretrain = dataclasses.replace(pretrained_run.config.pretrain, batch_size=16, micro_batch=micro_batch)
    config = dataclasses.replace(pretrained_run.config, pretrain=pretrain)
    store, first = IndexStore(pretrained_run.index_folder), phases.first_params(pretrained_run)
    made = shapes(first_batch(PretrainTask(config, open_prepared(pretrained_run), store, first)))
    longest = shapes(longest_batch.of_phase(config, "pretrain", DEVICES))
    (used, _), (most, _) = made.pop(".mask_slots"), longest.pop(".mask_slots")
    check_that_only_rows_are_missing(made, longest)
    assert used[0] == most[0] == DEVICES and used[1] <= most[1] == 2 * pretrain.max_masks


@pytest.mark.parametrize("trained", ["query", "both"])
def test_of_fine_tuning(pretrained_run, copy_run, tmp_path, trained):
    run = copy_run(pretrained_run, tmp_path / "run")
    settings = dataclasses.replace(
        run.config.finetune, batch_size=12, beam_blocks=12, reader_blocks=3, train_retriever=trained, epochs=1
    )
    data = open_prepared(run)
    finetuning = Finetuning.create(run, "cloze", "cloze", settings)
    questions = datasets.load("cloze", "train", run=data, config=run.config)[:24]
    first = finetuning.first_params()
    store = finetuning.index_store(data, first)
    task = FinetuneTask(finetuning.config, data, questions, store, first, lambda params: 0.0, finetuning.folder)
    longest = longest_batch.of_phase(finetuning.config, "finetune", DEVICES)
    check_that_only_rows_are_missing(shapes(first_batch(task)), shapes(longest))


def test_a_process_gives_its_own_share(tiny_config):
    whole = longest_batch.of_phase(tiny_config, "ict", 32)
    own = longest_batch.of_phase(dataclasses.replace(tiny_config), "ict", 32, 4)
    assert {leaf.shape[0] for leaf in jax.tree.leaves(whole)} == {32}
    assert [(4, *leaf.shape[1:]) for leaf in jax.tree.leaves(whole)] == [leaf.shape for leaf in jax.tree.leaves(own)]
