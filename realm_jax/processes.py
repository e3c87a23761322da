"""Several processes that train together: who they are, how they join, what they agree on.

Each process runs the same command with `REALM_JAX_DISTRIBUTED` set, makes its own share of every batch and searches the
index on its own devices; only the training step is one program over all of them. The first process decides for all: the
checkpoint to start from, the index version, the step at which a signal stops all. It alone writes to the workdir; index
versions are an exception, which all build together.
A process that dies ends the others within the distributed service's heartbeat (100 s); the same command resumes.
"""

import itertools
import json
import os
import signal
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import jax
import numpy as np
from jax._src import distributed  # the public `jax.distributed` has no way to its key-value store
from jax.experimental import multihost_utils
from jaxtyping import Array, Int32, Shaped

from realm_jax import parallel, signals
from realm_jax.config import ConfigError
from realm_jax.records import Process

VARIABLE = "REALM_JAX_DISTRIBUTED"

T = TypeVar("T")


def join() -> None:
    """Joins the other processes if the environment asks for it; must come before all other use of JAX.

    `REALM_JAX_DISTRIBUTED` is `auto` where JAX finds the others itself (TPU pods, Slurm), or
    `ADDRESS:PORT,PROCESSES,NUMBER` with the first process's address.

    Raises:
        ConfigError: the variable is malformed.
    """
    value = os.environ.get(VARIABLE, "")
    if not value or jax.distributed.is_initialized():
        return
    address, *numbers = value.split(",")
    if value == "auto":
        jax.distributed.initialize()
    elif ":" in address and len(numbers) == 2 and all(number.isdecimal() for number in numbers):
        jax.distributed.initialize(address, int(numbers[0]), int(numbers[1]))
    else:
        raise ConfigError(f"{VARIABLE}={value}: set it to auto, or ADDRESS:PORT,PROCESSES,NUMBER (10.0.0.2:8476,4,0)")
    for number in signals.HANDLED:  # JAX's service takes SIGTERM for itself, and does nothing before training
        signal.signal(number, signal.getsignal(number))


def this() -> Process:
    """This process among those that train together."""
    return Process(jax.process_index(), jax.process_count())


def is_first() -> bool:
    """Whether this process writes to the workdir."""
    return jax.process_index() == 0


def are_many() -> bool:
    """Whether several processes train together."""
    return jax.process_count() > 1


def wait_for_all(name: str) -> None:
    """Returns once every process has come here; `name` says where, the same on all."""
    if are_many():
        multihost_utils.sync_global_devices(name)


def on_first(work: Callable[[], object]) -> None:
    """Does the work on the first process while the others wait."""
    if is_first():
        work()
    wait_for_all("the first process's work is done")


def first_then(first: Callable[[], T], others: Callable[[], T]) -> T:
    """Runs `first` on the first process, then `others` on the others, which can use what it made."""
    result = first() if is_first() else None
    wait_for_all("the first process is ready")
    return result if is_first() else others()


def from_first(value: int) -> int:
    """The first process's value, on all; waits for the devices."""
    return int(multihost_utils.broadcast_one_to_all(np.int32(value))) if are_many() else value


def least(value: int) -> int:
    """The least of all processes' values, on all; waits for the devices."""
    return int(multihost_utils.process_allgather(np.int32(value)).min()) if are_many() else value


def share(array: Shaped[np.ndarray, "batch ..."]) -> Shaped[np.ndarray, "own ..."]:
    """This process's rows of an array that all processes have."""
    process = this()
    rows = len(array) // process.count
    return array[process.index * rows : (process.index + 1) * rows]


def join_shares(array: Shaped[np.ndarray, "own ..."]) -> Shaped[np.ndarray, "batch ..."]:
    """The reverse of `share`: the rows of all processes, in order."""
    return multihost_utils.process_allgather(array, tiled=True) if are_many() else array


class Reduced(NamedTuple):
    """The values that all processes passed, reduced."""

    first: int
    """The first process's value."""
    least: int
    greatest: int


class Agreement:
    """The greatest of what all processes need, agreed on over the distributed service, without the devices.

    Every process makes its agreements, and asks them, in the same order; one that is alone needs nobody.

    Args:
        timeout_s: how long to wait for the others.
    """

    _made = itertools.count()

    def __init__(self, timeout_s: float):
        self._name, self._asked, self._timeout_ms = next(Agreement._made), 0, round(1000 * timeout_s)

    def greatest(self, needed: dict[str, int]) -> dict[str, int]:
        """The greatest number of any process, by name; names are the same on all."""
        if not are_many():
            return needed
        client, process = distributed.global_state.client, this()
        client.key_value_set(self._key(self._asked, process.index), json.dumps(needed))
        others = [
            json.loads(client.blocking_key_value_get(self._key(self._asked, number), self._timeout_ms))
            for number in range(process.count)
        ]
        if self._asked:  # whoever asked now has read what was said before
            client.key_value_delete(self._key(self._asked - 1, process.index))
        self._asked += 1
        return {name: max(other[name] for other in others) for name in needed}

    def _key(self, asked: int, process: int) -> str:
        return f"realm_jax/agreement/{self._name}/{asked}/{process}"


class AllReduce:
    """An all-reduce of one number whose result is known one call later, so that nobody waits for the devices.

    Every process must call `reduce` equally often. A process that is alone has the result at once.
    """

    def __init__(self):
        self._run = parallel.on_all_devices(_least_and_greatest) if are_many() else None
        self._pending = None
        if self._run:
            self.reduce(0)

    def reduce(self, value: int) -> Reduced:
        """Passes a value >= 0; returns what all passed in the call before (0 before the first)."""
        if self._run is None:
            return Reduced(value, value, value)
        before, own = self._pending, np.array([value, value if is_first() else -1], np.int32)
        self._pending = self._run(np.broadcast_to(own, (parallel.num_devices(), 2)))
        if before is None:
            return Reduced(0, 0, 0)
        (least, _), (greatest, first) = (np.asarray(part.addressable_data(0)).reshape(2) for part in before)
        return Reduced(int(first), int(least), int(greatest))


def _least_and_greatest(values: Int32[Array, "2"]) -> tuple[Int32[Array, "2"], Int32[Array, "2"]]:
    """Least and greatest over all devices of what each process passed."""
    return jax.lax.pmin(values, parallel.AXIS), jax.lax.pmax(values, parallel.AXIS)
