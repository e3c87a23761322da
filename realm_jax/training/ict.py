"""Warm-starts the embedder by the inverse cloze task."""

from realm_jax import processes
from realm_jax.data.prepare import RunData
from realm_jax.training import fit, loop, phases
from realm_jax.training.ict_task import IctTask
from realm_jax.workdir import Workdir


def train(workdir: Workdir, data: RunData) -> None:
    """Trains, or goes on from the last checkpoint; does nothing once the phase is done."""
    config = workdir.config
    if workdir.is_done("ict") or not config.ict.steps:
        return
    fit.refuse_what_is_too_large(config, "ict")
    loop.run(IctTask(config, data, phases.first_params(workdir, ("embedder",))), workdir.phase("ict"))
    processes.on_first(lambda: workdir.mark_done("ict", config.ict.steps))
