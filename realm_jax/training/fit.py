"""Whether a phase's step fits into the devices' memory, found out before anything is trained: an error, not an OOM.

The step is compiled for the longest batch that its phase can make; a corpus's own batches are packed into fewer rows,
which is another program. Devices that do not say how much memory they have, such as CPUs, are not asked.
"""

import functools

import jax

from realm_jax import processes
from realm_jax.config import Config, ConfigError
from realm_jax.models import embedder
from realm_jax.models.shapes import shapes
from realm_jax.plan import device_memory, longest_batch
from realm_jax.plan.advice import advice
from realm_jax.plan.compiled import CompiledStep, Objective, compiled_step
from realm_jax.training.finetune_task import finetune_loss, finetune_optimizer
from realm_jax.training.ict_task import ict_loss, ict_optimizer
from realm_jax.training.pretrain_task import realm_loss, realm_optimizer
from realm_jax.workdir import Workdir

MIB = 2**20
UNKNOWN_MIB = 2**31 - 1
"""Memory of a device that does not say how much it has."""
ANY_STEPS = 1
"""How long a fine-tuning is changes its learning rate, not its memory."""


def refuse_run_that_is_too_large(workdir: Workdir) -> None:
    """The same for the phases that `realm run` has before it, so that ICT is not trained in vain."""
    config = workdir.config
    for phase, steps in (("ict", config.ict.steps), ("pretrain", config.pretrain.steps)):
        if steps and not workdir.is_done(phase):
            refuse_what_is_too_large(config, phase)


def refuse_what_is_too_large(config: Config, phase: str, *, steps: int = ANY_STEPS, blocks: int = 0) -> None:
    """Compares the memory of the compiled step of `ict`, `pretrain` or `finetune` with that of the devices.

    All processes call it, and all of them refuse, or none.

    Args:
        steps: of a fine-tuning.
        blocks: of the index that is searched exactly on the devices of each process; 0 where none is.

    Raises:
        ConfigError: the step is too large; the message says by how much, and which settings to change to what.
    """
    free_mib = processes.least(min(_free_mib(device.memory_stats()) for device in jax.local_devices()))
    if free_mib == UNKNOWN_MIB:
        return
    step, devices = compiled_here(config, phase, steps), jax.device_count()
    blocks = -(-blocks // jax.local_device_count())
    platform = jax.devices()[0].platform
    planned = device_memory.of_phase(config, phase, devices, platform=platform, blocks=blocks)
    needed = step.reserved_bytes + sum(planned.beside.values())
    available = min(free_mib * MIB, step.available_bytes or free_mib * MIB)
    if needed > available:
        raise ConfigError(advice(config, phase, devices, needed=needed, available=available, platform=platform))


def _free_mib(said: dict[str, int] | None) -> int:
    """MiB in which nothing lies yet, from what a device says of its memory."""
    if not said or "bytes_limit" not in said:
        return UNKNOWN_MIB
    return (said["bytes_limit"] - said.get("bytes_in_use", 0)) // MIB


@functools.cache
def compiled_here(config: Config, phase: str, steps: int = ANY_STEPS) -> CompiledStep:
    """A phase's step on the devices of all processes, compiled once."""
    devices = jax.device_count()
    batch = longest_batch.of_phase(config, phase, devices, jax.local_device_count())
    return compiled_step(objective(config, phase, devices, steps=steps), batch)


def objective(config: Config, phase: str, devices: int, *, steps: int = ANY_STEPS) -> Objective:
    """What a phase trains on so many devices; `steps` are those of a fine-tuning."""
    model, parts = config.model, longest_batch.micro_batches(config, phase, devices)
    towers = shapes("embedder", model)
    if phase == "ict":
        loss, optimizer, params = ict_loss, ict_optimizer(config.ict), {"embedder": towers}
    elif phase == "pretrain":
        params = {"embedder": towers, "encoder": shapes("encoder", model)}
        loss, optimizer = realm_loss, realm_optimizer(config.pretrain)
    else:
        sides = {side: embedder.tower(towers, side) for side in ("query", "block")}
        params = {"embedder": sides, "reader": shapes("reader", model)}
        loss, optimizer = finetune_loss, finetune_optimizer(config.finetune, steps)
    return Objective(functools.partial(loss, config), optimizer, params, config.seed, parts)
