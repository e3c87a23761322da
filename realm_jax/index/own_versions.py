"""Versions that a trainer builds itself: which one a step uses, and what is done where it is damaged or gone."""

import logging
from dataclasses import dataclass

import jax
from etils import epath

from realm_jax import processes
from realm_jax.checkpoints import Checkpoints
from realm_jax.checksums import Damaged
from realm_jax.config import ConfigError
from realm_jax.index.index_builder import IndexBuilder
from realm_jax.index.version import Version

log = logging.getLogger(__name__)


def version_for(trainer_step: int, every: int) -> int:
    """Step of the version that `trainer_step` uses, where one is built every so many steps: from the next step on."""
    return max(0, trainer_step - 1) // every * every if every else 0


@dataclass(frozen=True)
class OwnVersions:
    """The versions that the trainer of a phase builds. All of its processes call the same methods."""

    builder: IndexBuilder
    folder: epath.Path
    """Of the phase."""
    first: dict
    """The embedder's parameters before the first step, on the host."""
    source: dict
    """Phase and step of the checkpoint that they come from."""

    def build(self, step: int, embedder_params: dict) -> None:
        """Builds the version of a step, unless it is there; parameters are on the host."""
        self.builder.build(step, embedder_params, embedded_by=None if step else self.source)

    def mend(self, needed: int) -> None:
        """Sets damaged versions aside from step `needed` on; builds that one from its checkpoint if it is not there.

        The first process alone looks. What dead processes left goes, too.

        Raises:
            ConfigError: the checkpoint is gone, too.
        """
        store = self.builder.store
        if processes.is_first():
            store.tidy()
            for version in store.versions():
                if version.step >= needed and not _is_whole(version):
                    store.set_aside(version)
        if not processes.from_first(needed in [version.step for version in store.versions()]):
            self.build(needed, self._params(needed) if needed else self.first)

    def _params(self, step: int) -> dict:
        checkpoint = self.folder / "checkpoints" / str(step)
        if not checkpoint.exists():
            what = f"{self.builder.store.folder} lacks the version of step {step}, and {checkpoint} is gone"
            raise ConfigError(f"{what}: train again in another --workdir")
        with Checkpoints(self.folder, read_only=True) as checkpoints:
            return jax.device_get(checkpoints.restore_params(step, {"embedder": self.first})["embedder"])


def _is_whole(version: Version) -> bool:
    try:
        version.verify()
    except Damaged as damaged:
        log.warning(f"{damaged}; it is set aside, and built again")
        return False
    return True
