"""Real training steps on this machine's devices, timed: what `realm plan --measure` takes in place of an assumption.

Batches are random. That costs what a real one costs, since sequences are padded to their greatest length whatever they
hold; the masked language model's head has as many predictions as it has in most batches.
"""

import dataclasses
import statistics
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from realm_jax import parallel
from realm_jax.batches import FinetuneBatch, IctBatch, PretrainBatch
from realm_jax.config import Config, ConfigError
from realm_jax.data.assembly import mask_slots
from realm_jax.plan import longest_batch, planned
from realm_jax.plan.hardware import Hardware, of_devices
from realm_jax.training.fit import objective

WARM_UP, STEPS, LEAST_SECONDS = 2, 10, 3.0


def this_machine() -> Hardware:
    """The devices that JAX has here. Raises ConfigError if the planner's table lacks them."""
    kind = jax.devices()[0].device_kind
    found = of_devices(kind, jax.device_count(), jax.process_count())
    if found is None:
        raise ConfigError(f"{kind} is not in the planner's table: add it to realm_jax/plan/hardware.py")
    return found


def measured_steps(config: Config) -> dict[str, float]:
    """Times `STEPS` steps of each phase that the config has, and more where these are over in a moment.

    Returns:
        median seconds of a step, by phase.
    """
    phases = [phase for phase in planned.PHASES if phase != "ict" or config.ict.steps]
    return {phase: _seconds(config, phase) for phase in phases}


def _seconds(config: Config, phase: str) -> float:
    devices = jax.device_count()
    trained = objective(config, phase, devices)
    rng = np.random.default_rng(config.seed)
    params = jax.tree.map(lambda leaf: 0.02 * rng.standard_normal(leaf.shape, np.float32), trained.params)
    state = parallel.replicate(parallel.TrainState(jnp.int32(0), params, trained.optimizer.init(params)))
    step = parallel.compiled_train_step(trained.loss, trained.optimizer, trained.seed, trained.micro_batches)
    batch = random_batch(config, phase, devices)
    seconds = []
    while len(seconds) < WARM_UP + STEPS or sum(seconds[WARM_UP:]) < LEAST_SECONDS:
        started = time.perf_counter()
        state, _ = step(state, batch)
        jax.block_until_ready(state)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[WARM_UP:])


def random_batch(config: Config, phase: str, devices: int) -> IctBatch | PretrainBatch | FinetuneBatch:
    """A batch of random wordpieces, split over the devices: [devices, rows of a device, …]."""
    rng = np.random.default_rng(config.seed)

    def filled(path: Any, leaf: jax.ShapeDtypeStruct) -> np.ndarray:
        if path[-1].name == "mask_positions":
            return rng.integers(1, config.pretrain.query_len_tokens - 1, leaf.shape, np.int32)
        if path[-1].name == "types":
            return np.zeros(leaf.shape, np.int32)
        if leaf.dtype == np.int32:
            return rng.integers(config.model.vocab_size, size=leaf.shape, dtype=np.int32)
        return np.ones(leaf.shape, leaf.dtype)

    batch = jax.tree_util.tree_map_with_path(filled, longest_batch.of_phase(config, phase, devices))
    if phase != "pretrain":
        return batch
    weights = np.zeros(batch.mask_weights.shape, np.float32)
    weights[..., : planned.predictions(config, devices)] = 1
    shares = devices * longest_batch.micro_batches(config, phase, devices)
    slots = mask_slots(weights.reshape(-1, weights.shape[-1]), shares)
    return dataclasses.replace(batch, mask_weights=weights, mask_slots=slots.reshape(devices, -1))
