"""Repeats a run's pre-training with the index versions that it used, each from the step on that it was in use.

A builder beside the trainer publishes versions when it can, so no two runs use the same ones. Which they were is in the
index's history; with these a run is a function of its config.
"""

import dataclasses

import numpy as np
from etils import epath

from realm_jax.checkpoints import Checkpoints
from realm_jax.config import Config, ConfigError
from realm_jax.data.corpus import Corpus
from realm_jax.data.prepare import RunData, open_prepared
from realm_jax.index.index_builder import IndexBuilder
from realm_jax.index.own_versions import OwnVersions
from realm_jax.index.recorded import RecordedIndex, adoptions
from realm_jax.index.store import IndexStore
from realm_jax.models.names import flatten
from realm_jax.training import loop, phases
from realm_jax.training.pretrain_task import PretrainTask
from realm_jax.workdir import Workdir


def replay(workdir: Workdir, folder: epath.Path, steps: int) -> dict:
    """Trains again, up to a step; goes on where it was broken off.

    Args:
        folder: takes checkpoints, metrics, and all index versions of the record.

    Returns:
        The parameters after so many steps, on the host.

    Raises:
        ConfigError: the run has no record of the versions that it used, or the folder has later steps.
    """
    used = adoptions(IndexStore(workdir.index_folder).history())
    if 0 not in used:
        raise ConfigError(f"{workdir.index_folder} has no record of the versions that training began with")
    with Checkpoints(folder / "pretrain", read_only=True) as checkpoints:
        if (checkpoints.latest_step() or 0) > steps:
            raise ConfigError(f"{folder} is past step {steps}: pass another --into, or delete it")
    data, first, store = open_prepared(workdir), phases.warm_params(workdir), IndexStore(folder / "index")
    index = dataclasses.replace(workdir.config.index, keep_versions=len(used) + 1)
    config = dataclasses.replace(workdir.config, index=index)
    if store.latest() is None:
        IndexBuilder(config, data, store).build(0, first["embedder"])
    return loop.run(_Replayed(config, data, store, first, used, steps), folder / "pretrain")


def differing(params: dict, others: dict) -> list[str]:
    """Names of the arrays, of two states of one run, that have not the same bits."""
    ours, theirs = flatten(params), flatten(others)
    return sorted(name for name in ours if np.asarray(ours[name]).tobytes() != np.asarray(theirs[name]).tobytes())


class _Replayed(PretrainTask):
    """Pre-training that makes each version of the record when its step comes."""

    def __init__(self, config: Config, data: RunData, store: IndexStore, first: dict, used: dict[int, int], until: int):
        own = OwnVersions(IndexBuilder(config, data, store), store.folder.parent / "pretrain", first["embedder"], {})
        super().__init__(config, data, store, first, own)
        self._used, self._until = used, until

    def builds_index_at(self, step: int) -> bool:
        return step > 0 and step in self._used.values()

    def saves_at(self, step: int) -> bool:
        return super().saves_at(step) or self.builds_index_at(step) or step == self._until

    def is_over(self, step: int) -> bool:
        return step >= self._until

    def mend_index(self, step: int) -> None:
        pass

    def current_index(self, corpus: Corpus, config: Config, step: int, search: str = "") -> RecordedIndex:
        return RecordedIndex(self._store, corpus, config, self._used, step)
