"""Real training steps on this machine's devices, timed: what `realm plan --measure` takes in place of an assumption.

Batches are of random wordpieces and as long as the corpus's are on average; they are packed as real ones. The masked
language model's head has as many predictions as it has in most batches.
"""

import dataclasses
import math
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from realm_jax import parallel
from realm_jax.batches import FinetuneBatch, IctBatch, Packed, PretrainBatch, Tokens
from realm_jax.config import Config, ConfigError
from realm_jax.plan import longest_batch, planned
from realm_jax.plan.hardware import Hardware, of_devices
from realm_jax.plan.work import Lengths
from realm_jax.training import room
from realm_jax.training.fit import objective

WARM_UP, STEPS, LEAST_SECONDS = 2, 10, 3.0


def this_machine() -> Hardware:
    """The devices that JAX has here. Raises ConfigError if the planner's table lacks them."""
    kind = jax.devices()[0].device_kind
    found = of_devices(kind, jax.device_count(), jax.process_count())
    if found is None:
        raise ConfigError(f"{kind} is not in the planner's table: add it to realm_jax/plan/hardware.py")
    return found


def measured_steps(config: Config, lengths: Lengths | None) -> dict[str, float]:
    """Times `STEPS` steps of each phase that the config has, and more where these are over in a moment.

    Args:
        lengths: of the corpus; None where they are not known.

    Returns:
        median seconds of a step, by phase.
    """
    phases = [phase for phase in planned.PHASES if phase != "ict" or config.ict.steps]
    return {phase: _seconds(config, phase, lengths) for phase in phases}


def _seconds(config: Config, phase: str, lengths: Lengths | None) -> float:
    devices = jax.device_count()
    trained = objective(config, phase, devices)
    rng = np.random.default_rng(config.seed)
    params = jax.tree.map(lambda leaf: 0.02 * rng.standard_normal(leaf.shape, np.float32), trained.params)
    state = parallel.replicate(parallel.TrainState(jnp.int32(0), params, trained.optimizer.init(params)))
    step = parallel.compiled_train_step(trained.loss, trained.optimizer, trained.seed, trained.micro_batches)
    batch = random_batch(config, phase, devices, lengths)
    seconds = []
    while len(seconds) < WARM_UP + STEPS or sum(seconds[WARM_UP:]) < LEAST_SECONDS:
        started = time.perf_counter()
        state, _ = step(state, batch)
        jax.block_until_ready(state)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[WARM_UP:])


def random_batch(
    config: Config, phase: str, devices: int, lengths: Lengths | None
) -> IctBatch | PretrainBatch | FinetuneBatch:
    """A batch of random wordpieces, packed and split over the devices.

    Args:
        lengths: of the sequences; None makes all as long as they may be.
    """
    rng = np.random.default_rng(config.seed)
    longest = longest_batch.of_phase(config, phase, devices)
    query = longest.query.ids.shape[-1] if lengths is None else round(lengths.sentence)

    def filled(name: str, value: Any) -> Any:
        if isinstance(value, Packed):
            return _sequences(rng, value, _length(name, query, lengths), config.model.vocab_size)
        if value is None:
            return None
        shape = (-1, *value.shape[2:])
        if name == "mask_positions":
            return rng.integers(1, max(2, query - 1), value.shape, np.int32).reshape(shape)
        if value.dtype == np.int32:
            return rng.integers(config.model.vocab_size, size=value.shape, dtype=np.int32).reshape(shape)
        return np.ones(value.shape, value.dtype).reshape(shape)

    fields = [field.name for field in dataclasses.fields(longest)]
    batch = dataclasses.replace(longest, **{name: filled(name, getattr(longest, name)) for name in fields})
    if phase == "pretrain":
        batch.mask_weights[:, planned.predictions(config) :] = 0
    return parallel.shard(room.of_phase(config, phase, {}).pack(batch))


def _length(name: str, query: int, lengths: Lengths | None) -> float:
    """Mean length of a field's sequences; as long as a row if it is not known."""
    if lengths is None:
        return math.inf
    return {"query": query, "null_joint": query + 1, "joint": query + lengths.block}.get(name, lengths.block)


def _sequences(rng: np.random.Generator, longest: Packed, mean: float, vocab_size: int) -> Tokens:
    """As many random sequences as `longest` has, between half and one and a half times the mean length."""
    count, row_length = longest.starts.size, longest.ids.shape[-1]
    drawn = np.full(count, row_length) if math.isinf(mean) else np.rint(mean * rng.uniform(0.5, 1.5, count))
    mask = np.arange(row_length) < np.clip(drawn, 4, row_length)[:, None]
    ids = rng.integers(vocab_size, size=mask.shape, dtype=np.int32)
    return Tokens(ids, mask, np.zeros(mask.shape, np.int32))
