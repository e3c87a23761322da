"""A fine-tuning without training: what its command leaves, with random weights."""

import jax
import numpy as np

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
