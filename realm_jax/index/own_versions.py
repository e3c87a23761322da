"""Versions that a trainer builds itself: which one a step uses, and what is done where it is damaged or gone."""

import logging

import jax
from etils import epath

from realm_jax import processes
from realm_jax.checkpoints import Checkpoints
from realm_jax.checksums import Damaged
from realm_jax.config import ConfigError
from realm_jax.index.index_builder import IndexBuilder

log = logging.getLogger(__name__)


def version_for(trainer_step: int, every: int) -> int:
    """Step of the version that `trainer_step` uses, where one is built every so many steps: from the next step on."""
    return max(0, trainer_step - 1) // every * every if every else 0


def mend(builder: IndexBuilder, folder: epath.PathLike, every: int, first: dict, source: dict) -> None:
    """Sets damaged versions aside from the one that training goes on with; builds that from its checkpoint if need be.

    Where several processes train it does nothing: they might see different things.

    Args:
        folder: of the phase that the trainer goes on with.
        every: steps between versions; 0 where there is but the first.
        first: the embedder's parameters before the first step, on the host.
        source: phase and step of the checkpoint that they come from.

    Raises:
        ConfigError: that checkpoint is gone, too.
    """
    if processes.are_many():
        return
    store = builder.store
    with Checkpoints(folder, read_only=True) as checkpoints:
        needed = version_for(checkpoints.latest_step() or 0, every)
        for version in store.versions():
            try:
                if version.step >= needed:
                    version.verify()
            except Damaged as damaged:
                log.warning(f"{damaged}; it is set aside, and built again")
                store.set_aside(version)
        if needed in [version.step for version in store.versions()]:
            return
        params = first
        if needed:
            checkpoint = epath.Path(folder) / "checkpoints" / str(needed)
            if not checkpoint.exists():
                what = f"{store.folder} lacks the version of step {needed}, and {checkpoint} is gone"
                raise ConfigError(f"{what}: train again in another --workdir")
            params = jax.device_get(checkpoints.restore_params(needed, {"embedder": first})["embedder"])
    builder.build(needed, params, embedded_by=None if needed else source)
