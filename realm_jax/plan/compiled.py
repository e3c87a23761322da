"""A training step as its compiler sees it, from shapes alone: nothing is run, and the devices need not exist.

A TPU's compiler refuses what is larger than the memory of one; it says by how much, and so do we. Others compile it.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from realm_jax import parallel

SIZE = r"([\d.]+)([KMGT]?)"
TOO_LARGE = (rf"\({SIZE}\) exceeds available HBM \({SIZE}\)", rf"Used {SIZE} of {SIZE} hbm")
"""What libtpu says of a program before it places its buffers, and after it."""
UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclass(frozen=True)
class Objective:
    """What a phase trains: functions of its config, which know no data."""

    loss: Callable
    """`(params, batch, rng) -> (sum, count, metrics)`, as `parallel.train_step` takes it."""
    optimizer: optax.GradientTransformation
    params: Any
    """Shapes of the parameters."""
    seed: int
    """Of the dropout."""
    micro_batches: int
    """As in `parallel.gradients`."""


@dataclass(frozen=True)
class CompiledStep:
    """What the compiler says of a step; bytes are those of one device."""

    reserved_bytes: int
    """Arguments, temporaries, and outputs that do not take an argument's place."""
    arguments_bytes: int
    """Parameters, optimizer and batch; 0 where the compiler refused."""
    temporaries_bytes: int
    """What lives while the step runs; 0 where the compiler refused."""
    flops: float
    """Of one device, what is computed again included and a loop's body counted once; 0 where the compiler refused."""
    available_bytes: int | None
    """Memory of a device; None where the compiler does not say, since the step fits or it knows no limit."""
    compile_seconds: float


def compiled_step(objective: Objective, batch: Any, devices: list[jax.Device] | None = None) -> CompiledStep:
    """Compiles the step of `training.loop` for its batch.

    Args:
        batch: shapes, [devices, rows of a device, …] each; the devices are those of this process.
        devices: to compile for; by default those of all processes.

    Raises:
        jax.errors.JaxRuntimeError: the compiler failed for another reason than memory.
    """
    started = time.monotonic()
    lowered = lowered_step(objective, batch, devices)
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        reserved, available = _refused(error)
        return CompiledStep(reserved, 0, 0, 0.0, available, time.monotonic() - started)
    said = compiled.memory_analysis()
    reserved = said.argument_size_in_bytes + said.temp_size_in_bytes
    return CompiledStep(
        reserved_bytes=reserved + said.output_size_in_bytes - said.alias_size_in_bytes,
        arguments_bytes=said.argument_size_in_bytes,
        temporaries_bytes=said.temp_size_in_bytes,
        flops=compiled.cost_analysis()["flops"],
        available_bytes=None,
        compile_seconds=time.monotonic() - started,
    )


def lowered_step(objective: Objective, batch: Any, devices: list[jax.Device] | None = None) -> jax.stages.Lowered:
    """The step before its compilation; arguments are those of `compiled_step`."""
    optimizer = objective.optimizer
    state = jax.eval_shape(
        lambda params: parallel.TrainState(jnp.int32(0), params, optimizer.init(params)), objective.params
    )
    copies = len(jax.tree.leaves(batch)[0])
    on_each = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((copies, *leaf.shape), leaf.dtype), state)
    step = parallel.compiled_train_step(objective.loss, optimizer, objective.seed, objective.micro_batches, devices)
    return step.lower(on_each, batch)


def _refused(error: jax.errors.JaxRuntimeError) -> tuple[int, int]:
    """(needed, available) bytes of a program which a TPU's compiler finds too large; raises other errors."""
    for said in TOO_LARGE:
        if found := re.search(said, str(error)):
            used, used_unit, limit, limit_unit = found.groups()
            return int(float(used) * UNITS[used_unit]), int(float(limit) * UNITS[limit_unit])
    raise error
