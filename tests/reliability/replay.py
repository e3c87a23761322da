"""Trains a run again in one process, with the index versions that it used, from the steps on that it used them.

    python -m tests.reliability.replay WORKDIR FOLDER [STEPS]

A builder beside the trainer publishes versions when it can, so no two runs use the same ones. What they were is
recorded; with these a run is a function of its config. Prints fingerprints of the parameters after the last step, or
after STEPS, of the replay and of the run's own checkpoint. A replay that was broken off goes on.
"""

import dataclasses
import pathlib
import sys

import jax

from realm_jax.checkpoints import Checkpoints
from realm_jax.commands import cli
from realm_jax.data.prepare import RunData, open_prepared
from realm_jax.index.index_builder import IndexBuilder, fingerprint
from realm_jax.index.loaded_index import load
from realm_jax.index.own_versions import OwnVersions
from realm_jax.index.store import IndexStore
from realm_jax.models.shapes import shapes
from realm_jax.training import loop, phases
from realm_jax.training.pretrain_task import PretrainTask
from realm_jax.workdir import Workdir


def adoptions(events: list[dict]) -> dict[int, int]:
    """Step of the version in use, by the step of the trainer from which on it was.

    Args:
        events: of the index's history, oldest first.
    """
    used: dict[int, int] = {}
    for event in events:
        if event["event"] == "adopted":
            # A restart has the batch in flight, which the version before had chosen, and forgets what came after it.
            first = event["trainer_step"] + bool(event.get("at_start") and event["trainer_step"])
            used = {step: version for step, version in used.items() if step < first} | {first: event["step"]}
    return used


class ReplayedIndex:
    """As `CurrentIndex`, with the versions of a record."""

    def __init__(self, store, corpus, config, used):
        self._store, self._corpus, self._config, self._used = store, corpus, config.index, used
        self._load(used[0])

    def adopt(self, trainer_step: int) -> bool:
        if trainer_step in self._used:
            self._load(self._used[trainer_step])
        return trainer_step in self._used

    def _load(self, step: int) -> None:
        version = self._store.latest(step)
        assert version.step == step
        self.loaded = load(version, self._corpus, self._config, self._config.search)

    def metrics(self, trainer_step: int) -> dict[str, float]:
        del trainer_step
        return {}

    def close(self) -> None:
        pass


class Replayed(PretrainTask):
    """Pre-training that makes each version of the record when its step comes."""

    def __init__(self, config, data: RunData, store: IndexStore, first: dict, used: dict[int, int], until: int):
        folder = store.folder.parent / "pretrain"
        own = OwnVersions(IndexBuilder(config, data, store), folder, first["embedder"], {})
        super().__init__(config, data, store, first, own)
        self._used, self._until = used, until

    def builds_index_at(self, step: int) -> bool:
        return step > 0 and step in self._used.values()

    def saves_at(self, step: int) -> bool:
        return self.builds_index_at(step) or step == self._until

    def is_over(self, step: int) -> bool:
        return step >= self._until

    def mend_index(self, step: int) -> None:
        pass

    def current_index(self, corpus, config, step: int, search: str = "") -> ReplayedIndex:
        return ReplayedIndex(self._store, corpus, config, self._used)


def replay(workdir: Workdir, folder: pathlib.Path, steps: int) -> str:
    """Trains again into a folder of its own; returns the fingerprint of the parameters after so many steps."""
    used = adoptions(IndexStore(workdir.index_folder).history())
    data, first, store = open_prepared(workdir), phases.warm_params(workdir), IndexStore(folder / "index")
    index = dataclasses.replace(workdir.config.index, keep_versions=len(used) + 1)
    config = dataclasses.replace(workdir.config, index=index)
    if store.latest() is None:
        IndexBuilder(config, data, store).build(0, first["embedder"])
    return fingerprint(loop.run(Replayed(config, data, store, first, used, steps), folder / "pretrain"))


def of_run(workdir: Workdir, steps: int) -> str:
    """The fingerprint of what the run itself has saved after so many steps."""
    like = {part: shapes(part, workdir.config.model) for part in phases.PARTS}
    with Checkpoints(workdir.phase("pretrain"), read_only=True) as checkpoints:
        return fingerprint(jax.device_get(checkpoints.restore_params(steps, like)))


if __name__ == "__main__":
    cli.start_jax(cpu_only=True)
    run = Workdir.open(sys.argv[1])
    last = int(sys.argv[3]) if len(sys.argv) > 3 else run.config.pretrain.steps
    print(replay(run, pathlib.Path(sys.argv[2]), last), of_run(run, last))
