"""What to change where a step does not fit into a device's memory: the advice of the planner and of a refusal at start.

Changes are tried in the order of what they cost: smaller micro-batches, which cost next to nothing; gradient
checkpointing, a third more computation; candidates in parts, another third. Numbers are those of `device_memory`, moved
by as much as a compiler's count of the present settings differs from them.
"""

import dataclasses
from collections.abc import Iterator, Mapping

from realm_jax.config import Config
from realm_jax.plan import device_memory
from realm_jax.plan.device_memory import Platform

GIB = 2**30


def advice(config: Config, phase: str, devices: int, *, needed: int, available: int, platform: Platform) -> str:
    """Says in one sentence by how much a step is too large, and which settings to change to what.

    Args:
        phase: `ict`, `pretrain` or `finetune`.
        devices: over how many the batch is split.
        needed: bytes of a device that the step takes with these settings, by the planner's count or a compiler's.
        available: bytes that the device has.
        platform: of the devices.
    """
    said = f"a step of {phase} needs {needed / GIB:.1f} GiB on each device, which has {available / GIB:.1f}: "
    changes = smallest_change(config, phase, devices, needed=needed, available=available, platform=platform)
    if changes is None:
        return said + f"pass a smaller --{phase}.batch_size, or use more devices or larger ones"
    return said + "pass " + " ".join(f"--{name}={value}" for name, value in changes.items())


def smallest_change(
    config: Config, phase: str, devices: int, *, needed: int, available: int, platform: Platform
) -> dict[str, int | bool] | None:
    """The cheapest settings that fit, `section.field` -> value; None if none do. Arguments are those of `advice`."""
    now = device_memory.of_phase(config, phase, devices, platform=platform)
    for changes in _changes(config, phase, devices):
        then = device_memory.of_phase(changed(config, changes), phase, devices, platform=platform)
        moved = (needed - now.fixed) / max(1, now.total - now.fixed)  # of what the changes can lower
        if then.fixed + moved * (then.total - then.fixed) <= available:
            return changes
    return None


def changed(config: Config, changes: Mapping[str, object]) -> Config:
    """The config with other values of `section.field`s."""
    for name, value in changes.items():
        section, field = name.split(".")
        config = dataclasses.replace(
            config, **{section: dataclasses.replace(getattr(config, section), **{field: value})}
        )
    return config


def _changes(config: Config, phase: str, devices: int) -> Iterator[dict[str, int | bool]]:
    """What can be changed, the cheapest first."""
    share, held = device_memory.share(config, phase, devices), device_memory.held(config, phase, devices)
    smaller = [{f"{phase}.micro_batch": size} for size in range(held - 1, 0, -1) if share % size == 0]
    yield from smaller
    checkpointed: dict[str, int | bool] = {}
    if not config.model.gradient_checkpointing:
        checkpointed = {"model.gradient_checkpointing": True}
        yield checkpointed
        yield from (change | checkpointed for change in smaller)
    if phase == "pretrain":
        fewest = smaller[-1] if smaller else {}
        blocks = config.pretrain.micro_candidates or config.pretrain.num_candidates - 1
        yield from (fewest | checkpointed | {"pretrain.micro_candidates": part} for part in range(blocks - 1, 0, -1))
