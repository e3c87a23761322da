"""Whether a phase's step fits into the devices' memory, found out before anything is trained: an error, not an OOM.

The step is compiled for the longest batch that its phase can make, which is the program that training then uses; its
second compilation comes from the cache on disk. Devices that do not say how much memory they have, such as CPUs, are
not asked.
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

MIB = 2**20
SHORTEST = 1
"""Steps of a fine-tuning whose questions are not counted yet: they change the learning rate, not the memory."""


def refuse_what_does_not_fit(config: Config, phase: str, *, steps: int = SHORTEST, blocks: int = 0) -> None:
    """Compiles the step of `ict`, `pretrain` or `finetune` and compares its memory with that of the devices.

    All processes call it, and all of them refuse or none.

    Args:
        steps: of a fine-tuning.
        blocks: of the index that exact search will have on the devices of this process.

    Raises:
        ConfigError: the step is too large; the message says by how much, and which settings to change to what.
    """
    has = processes.least(min(_free_mib(device) for device in jax.local_devices()))
    if has == UNKNOWN:
        return
    step, available = compiled_for_these_devices(config, phase, steps), has * MIB
    beside = device_memory.of_phase(config, phase, jax.device_count(), blocks=blocks).beside
    needed = step.reserved_bytes + sum(beside.values())
    if step.available_bytes is not None:
        available = min(available, step.available_bytes)
    if needed > available:
        raise ConfigError(advice(config, phase, jax.device_count(), needed=needed, available=available))


UNKNOWN = 2**31 - 1
"""MiB of a device that does not say how many it has."""


def _free_mib(device: jax.Device) -> int:
    """MiB of a device's memory that nothing is in yet."""
    said = device.memory_stats() or {}
    return (said["bytes_limit"] - said.get("bytes_in_use", 0)) // MIB if "bytes_limit" in said else UNKNOWN


@functools.cache
def compiled_for_these_devices(config: Config, phase: str, steps: int) -> CompiledStep:
    """The step on the devices of all processes, compiled once."""
    devices = jax.device_count()
    batch = longest_batch.of_phase(config, phase, devices, jax.local_device_count())
    return compiled_step(objective(config, phase, devices, steps=steps), batch)


def objective(config: Config, phase: str, devices: int, *, steps: int = SHORTEST) -> Objective:
    """What a phase trains on so many devices. `steps` are those of a fine-tuning."""
    model = config.model
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
    parts = longest_batch.micro_batches(config, phase, devices)
    return Objective(functools.partial(loss, config), optimizer, params, config.seed, parts)
