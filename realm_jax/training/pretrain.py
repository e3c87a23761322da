"""Pre-trains REALM.

Builds index version 0 itself if there is none; from then on the builder's versions are taken as they come.
"""

from realm_jax import processes
from realm_jax.config import Config
from realm_jax.data.prepare import RunData
from realm_jax.index.index_builder import IndexBuilder
from realm_jax.index.own_versions import OwnVersions
from realm_jax.index.store import IndexStore
from realm_jax.training import fit, loop, phases
from realm_jax.training.pretrain_task import PretrainTask
from realm_jax.workdir import Workdir


def build_first_index(workdir: Workdir, data: RunData) -> None:
    """Index version 0, by the devices of all processes; does nothing where there is one."""
    builder = IndexBuilder(workdir.config, data, IndexStore(workdir.index_folder))
    if processes.from_first(builder.store.latest() is None):
        builder.build(0, phases.warm_params(workdir, ("embedder",))["embedder"], embedded_by=_source(workdir.config))


def _source(config: Config) -> dict:
    """Where the first embedder comes from."""
    return {"phase": "ict" if config.ict.steps else "init", "step": config.ict.steps}


def train(workdir: Workdir, data: RunData) -> None:
    """Trains, or goes on from the last checkpoint; does nothing once the phase is done."""
    if workdir.is_done("pretrain"):
        return
    is_exact = workdir.config.index.search == "exact"
    fit.refuse_what_is_too_large(workdir.config, "pretrain", blocks=data.knowledge.num_blocks if is_exact else 0)
    build_first_index(workdir, data)
    config, store, folder = workdir.config, IndexStore(workdir.index_folder), workdir.phase("pretrain")
    first, own = phases.warm_params(workdir), None
    if config.index.device == "inline":
        own = OwnVersions(IndexBuilder(config, data, store), folder, first["embedder"], _source(config))
    loop.run(PretrainTask(config, data, store, first, own), folder)
    processes.on_first(lambda: workdir.mark_done("pretrain", config.pretrain.steps))
