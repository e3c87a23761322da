"""All device parallelism: the pmapped steps and how arrays get onto the devices. No other file names pmap.

Steps are written in the per-device view with one axis, `AXIS`. A loss returns a sum and a count; the step divides by
the count of all devices inside the differentiated function and then sums gradients, so that any number of devices
gives the gradient of one (a mean of per-device means would not, when masks are uneven). So do micro-batches: parts of a
device's share, one after the other, whose gradients are added up before the division.

Only the training step spans the devices of all processes; everything else runs on those of its own (`processes.py`).
"""

import functools
import os
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import jax_utils
from jaxtyping import Array, Int32, PRNGKeyArray, Shaped

from realm_jax.config import ConfigError
from realm_jax.local_cache import cache_dir

AXIS = "batch"


@flax.struct.dataclass
class TrainState:
    """What a training step reads and writes."""

    __no_type_check__ = True  # it also holds shapes, where a step is compiled before there are arrays
    step: Int32[Array, "*devices"]
    """Steps taken."""
    params: Any
    opt_state: Any


def set_up_compilation_cache() -> None:
    """Keeps compiled programs on disk, so that the second start of a command is fast.

    JAX's own variables hold where they are set: JAX_COMPILATION_CACHE_DIR, JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS.
    """
    ours = {"jax_compilation_cache_dir": str(cache_dir() / "xla"), "jax_persistent_cache_min_compile_time_secs": 0.5}
    for name, value in ours.items():
        if name.upper() not in os.environ:
            jax.config.update(name, value)


def num_devices() -> int:
    """How many devices this process has."""
    return jax.local_device_count()


def memory_bytes() -> int:
    """Memory of this process's accelerators together; 0 on a CPU, or where they do not say."""
    stats = [device.memory_stats() for device in jax.local_devices() if device.platform != "cpu"]
    return sum((of_device or {}).get("bytes_limit", 0) for of_device in stats)


def check_batch_size(size: int, flag: str) -> None:
    """Raises ConfigError if a global batch does not divide over all devices; `flag` names its setting."""
    if size != padded(size):
        raise ConfigError(
            f"{flag}={size} does not divide over {jax.device_count()} devices: pass --{flag}={padded(size)}"
        )


def padded(size: int, micro_batch: int = 0) -> int:
    """The smallest number of rows >= `size` that divides over the devices of all processes, and there into parts.

    Args:
        micro_batch: rows of a part; 0, or more than there are, makes one part.
    """
    share = -(-size // jax.device_count())
    if 0 < micro_batch < share:
        share = -(-share // micro_batch) * micro_batch
    return share * jax.device_count()


def micro_batches(batch_size: int, micro_batch: int, flag: str) -> int:
    """How many parts of `micro_batch` rows a device's share of a batch is; 0, or more than there are, makes one part.

    Raises:
        ConfigError: the parts would differ; `flag` names the setting.
    """
    share = batch_size // jax.device_count()
    if not 0 < micro_batch < share:
        return 1
    if share % micro_batch:
        fits = max(rows for rows in range(1, micro_batch) if share % rows == 0)
        raise ConfigError(f"{flag}={micro_batch} does not divide the {share} rows of a device: pass --{flag}={fits}")
    return share // micro_batch


def on_local_devices(fn: Callable, **kwargs) -> Callable:
    """`fn` on every local device over a leading device axis of its arguments."""
    return jax.pmap(fn, axis_name=AXIS, devices=jax.local_devices(), **kwargs)


def on_all_devices(fn: Callable, **kwargs) -> Callable:
    """`fn` on the devices of all processes, each of which passes its own share and gets that back.

    All processes must call it in the same order, with the same shapes.
    """
    return jax.pmap(fn, axis_name=AXIS, **kwargs)


def replicate(tree: Any) -> Any:
    """Copies of the tree on every local device."""
    devices = num_devices()
    return jax.tree.map(lambda leaf: jax.device_put(_stacked(leaf, devices), _over_devices()), tree)


def _stacked(leaf: Any, copies: int) -> Any:
    """Copies along a new first axis, on the device or on the host as the leaf was."""
    return (jnp if isinstance(leaf, jax.Array) else np).stack([leaf] * copies)


def unreplicate(tree: Any) -> Any:
    """The first device's copy, without moving the others'."""
    return jax_utils.unreplicate(tree)


def shard(batch: Any) -> Any:
    """Splits the first axis of every leaf over the devices. Raises ValueError if it does not divide."""
    devices = num_devices()

    def split(leaf):
        leaf = np.asarray(leaf)
        if leaf.shape[0] % devices:
            raise ValueError(f"a batch of {leaf.shape[0]} does not divide over {devices} devices")
        return leaf.reshape(devices, leaf.shape[0] // devices, *leaf.shape[1:])

    return jax.tree.map(split, batch)


def shard_rows(array: Shaped[np.ndarray, "rows ..."]) -> Shaped[Array, "devices device_rows ..."]:
    """Splits rows over the local devices in order, ceil(rows / devices) each; the last are padded with zeros."""
    devices = num_devices()
    per_device = -(-array.shape[0] // devices)
    shards = []
    for i, device in enumerate(jax.local_devices()):
        rows = np.asarray(array[i * per_device : (i + 1) * per_device])
        padding = np.zeros((per_device - len(rows), *array.shape[1:]), array.dtype)
        shards.append(jax.device_put(np.concatenate([rows, padding])[None], device))
    return jax.make_array_from_single_device_arrays((devices, *shards[0].shape[1:]), _over_devices(), shards)


def _over_devices() -> jax.sharding.NamedSharding:
    """The first axis over the local devices (`flax.jax_utils.replicate` of some versions needs an old JAX)."""
    mesh = jax.sharding.Mesh(np.array(jax.local_devices()), (AXIS,))
    return jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(AXIS))


def all_gather(x: Shaped[Array, "batch ..."]) -> Shaped[Array, "all_batch ..."]:
    """Concatenates the first axis of all devices' arrays, in device order. For use inside a mapped function."""
    return jax.lax.all_gather(x, AXIS, tiled=True)


def device_index() -> Int32[Array, ""]:
    """This device's place on the axis. For use inside a mapped function."""
    return jax.lax.axis_index(AXIS)


def compiled_train_step(
    loss: Callable,
    optimizer: optax.GradientTransformation,
    seed: int,
    micro_batches: int = 1,
    devices: list[jax.Device] | None = None,
) -> Callable:
    """`train_step` on the devices of all processes: `(state, batch) -> (state, metrics)`; it donates the state.

    Args:
        devices: to compile for others than those that there are.
    """
    step = functools.partial(train_step, loss, optimizer, seed, micro_batches)
    return on_all_devices(step, donate_argnums=0, devices=devices)


def train_step(
    loss: Callable,
    optimizer: optax.GradientTransformation,
    seed: int,
    micro_batches: int,
    state: TrainState,
    batch: Any,
) -> tuple[TrainState, dict]:
    """One update, as each device sees it.

    Args:
        loss: `(params, batch, rng) -> (sum, count, metrics)` over this device's share of the batch; `metrics` maps a
            name to another pair (sum, count).
        optimizer: applied to the gradient of the loss over all devices.
        seed: of the dropout; folded with the step and the device.
        micro_batches: as in `gradients`.
        state: the same on all devices.
        batch: this device's share.

    Returns:
        the next state and the metrics' sums and counts, over all devices.
    """
    rng = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), state.step), device_index())
    grads, metrics = gradients(loss, state.params, batch, rng, micro_batches)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    return TrainState(step=state.step + 1, params=params, opt_state=opt_state), metrics


def gradients(loss: Callable, params: Any, batch: Any, rng: PRNGKeyArray, micro_batches: int = 1) -> tuple[Any, dict]:
    """Gradient of `sum over devices / count over devices`, and the metrics' sums. For use inside a mapped function.

    Args:
        micro_batches: parts of this device's share, of which one at a time is in memory; each has dropout of its own.
    """
    if micro_batches > 1:
        return _added_up(loss, params, batch, rng, micro_batches)

    def objective(params):
        total, count, metrics = loss(params, batch, rng)
        return total / jnp.maximum(jax.lax.psum(count, AXIS), 1.0), {"loss": (total, count), **metrics}

    grads, metrics = jax.grad(objective, has_aux=True)(params)
    return jax.lax.psum(grads, AXIS), jax.lax.psum(metrics, AXIS)


def _added_up(loss: Callable, params: Any, batch: Any, rng: PRNGKeyArray, micro_batches: int) -> tuple[Any, dict]:
    """`gradients`, which divides by the count once all parts are known."""

    def add(grads, part):
        number, rows = part

        def objective(params):
            total, count, metrics = loss(params, rows, jax.random.fold_in(rng, number))
            return total, {"loss": (total, count), **metrics}

        more, metrics = jax.grad(objective, has_aux=True)(params)
        return jax.tree.map(jnp.add, grads, more), metrics

    parts = jax.tree.map(lambda x: x.reshape(micro_batches, -1, *x.shape[1:]), batch)
    nothing = jax.tree.map(jnp.zeros_like, params)
    grads, metrics = jax.lax.scan(add, nothing, (jnp.arange(micro_batches), parts))
    metrics = jax.lax.psum(jax.tree.map(lambda x: x.sum(0), metrics), AXIS)
    count = jnp.maximum(metrics["loss"][1], 1.0)
    return jax.tree.map(lambda grad: grad / count, jax.lax.psum(grads, AXIS)), metrics


def means(metrics: dict) -> dict[str, float]:
    """The mean of each replicated pair (sum, count); NaN where the count is zero."""
    pairs = jax.device_get(unreplicate(metrics))
    return {name: float(total / count) if count else float("nan") for name, (total, count) in pairs.items()}
