"""Tiny runs for the demo: pre-trained, and fine-tuned by hand with random weights."""

import jax
import numpy as np
import pytest

from realm_jax.serve import live
from realm_jax.training.best_params import BestParams
from realm_jax.training.finetune_task import METRIC
from realm_jax.training.finetuning import Finetuning
from realm_jax.workdir import Workdir


def finetune_by_hand(workdir: Workdir, name: str = "cloze", seed: int = 5) -> Finetuning:
    """A fine-tuning as its command leaves it after one evaluation; its weights are random."""
    finetuning = Finetuning.create(workdir, name, "cloze", workdir.config.finetune)
    (finetuning.folder / "checkpoints").mkdir(parents=True)
    rng = np.random.default_rng(seed)
    first = finetuning.first_params()
    moved = jax.tree.map(lambda x: (x + rng.normal(0, 0.1, x.shape)).astype(np.float32), first)
    BestParams(finetuning.folder, METRIC).add(1, moved, 0.5)
    return finetuning


@pytest.fixture(scope="session")
def tuned_run(pretrained_run, tmp_path_factory, copy_run) -> Workdir:
    """Tests only read it."""
    workdir = copy_run(pretrained_run, tmp_path_factory.mktemp("runs") / "tuned")
    finetune_by_hand(workdir)
    return workdir


@pytest.fixture
def open_run(monkeypatch):
    """Opens a run as the page does; it follows the workdir only when `refresh` is called."""
    monkeypatch.setattr(live, "POLL_S", 3600.0)
    opened = []

    def make(workdir: Workdir, finetuning: str = "") -> live.LiveRun:
        opened.append(live.LiveRun(workdir, finetuning))
        return opened[-1]

    yield make
    for run in opened:
        run.close()
