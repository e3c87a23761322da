"""Orbax checkpoints, shared by trainer and index builder. No other file names Orbax.

A checkpoint holds each part of the parameters (`embedder`, `encoder`) as an item of its own, so that the builder reads
the embedder alone; `optimizer` (step and optimizer state), `data` (a few JSON values: the data position) and a checksum
of each, which is compared when it is read. Saves are asynchronous and appear whole. A reader pins what it reads, so
that pruning leaves it.
"""

import contextlib
import functools
import logging
import os
import re
import socket
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import wait
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, LatestN

from realm_jax import faults
from realm_jax.background import CLOSE_S, Background
from realm_jax.buckets import is_remote, move
from realm_jax.checksums import Damaged, crc_of_json
from realm_jax.config import ConfigError, RunError

log = logging.getLogger(__name__)

KEEP = 3
CHECKSUMS = "checksums"
STRUCTURE = "structure"
"""Among the checksums: that of the names and shapes of each part."""
DAMAGED = "damaged"
LIST_ATTEMPTS = 10
TIMEOUT_S = 3600.0  # of a save, and of a read
PIN_EXPIRES_S = 3600.0  # a pin outlives a reader that was killed by at most this long


def _is_news(record: logging.LogRecord) -> bool:
    """Orbax warns of folders opened read-only, as they mean to be, and of steps that come or go as they are listed.

    It also shows what it raises where we wait.
    """
    usual = ("directory is read only", "Metadata file does not exist")
    is_raised = record.exc_info and "orbax" in record.pathname
    return not is_raised and not any(said in str(record.msg) for said in usual)


def _show_unraisable(complaint: Any, before: Callable = sys.unraisablehook) -> None:
    """Leaves out what TensorStore's threads say of arrays whose reading was given up, since another one is damaged."""
    if str(complaint.exc_value) != "Event loop is closed":
        before(complaint)


logging.getLogger("absl").addFilter(_is_news)
sys.unraisablehook = _show_unraisable


class Checkpoints:
    """The checkpoints of one training phase.

    Args:
        read_only: for processes other than the phase's trainer: they never save, prune or clean up.
    """

    def __init__(self, phase_folder: epath.PathLike, *, read_only: bool = False):
        self._pins = epath.Path(phase_folder) / "pins"
        policy = AnyPreservationPolicy([LatestN(KEEP), _Pinned(self._pins)])
        chosen: dict = {"read_only": True, "save_interval_steps": 0} if read_only else {}
        if jax.process_count() > 1:  # the first process alone saves, and each reads for itself
            me = jax.process_index()
            alone = {"primary_host": me, "active_processes": {me}, "barrier_sync_key_prefix": f"host{me}"}
            chosen["multiprocessing_options"] = ocp.options.MultiprocessingOptions(**alone)
        options = ocp.CheckpointManagerOptions(
            preservation_policy=policy, create=False, cleanup_tmp_directories=not read_only, **chosen
        )
        folder = epath.Path(phase_folder) / "checkpoints"
        folder = folder if is_remote(folder) else folder.resolve()
        folder.mkdir(parents=True, exist_ok=True)
        self._manager = ocp.CheckpointManager(folder, options=options)
        self._folder = folder
        self._waiting = Background(f"a checkpoint in {folder}", TIMEOUT_S)

    def save(self, step: int, params: dict, optimizer: Any = None, data: dict | None = None) -> None:
        """Starts to save; the arrays are copied before this returns, so the caller may donate them.

        Args:
            optimizer: step and optimizer state; None for parameters that were not trained here.
            data: the data position, as JSON values; None if there is none.

        Raises:
            ConfigError: the disk is full, or the folder cannot be written, now or in the save before.
            RunError: the save before is not on disk in time.
        """
        if jax.process_count() > 1:  # Orbax takes an array on one host's devices for a piece of one on all
            params, optimizer = jax.device_get((params, optimizer))
        trees = {name: _as_arrays(tree) for name, tree in params.items()}
        if optimizer is not None:
            trees["optimizer"] = _as_arrays(optimizer)
        items = {name: ocp.args.StandardSave(tree) for name, tree in trees.items()}
        checksums: dict = {name: _checksum(tree) for name, tree in trees.items()}
        if data is not None:
            items["data"] = ocp.args.JsonSave(data)
            checksums["data"] = crc_of_json(data)
        items[CHECKSUMS] = ocp.args.JsonSave({**checksums, STRUCTURE: _structure(trees)})
        self._in_time(functools.partial(self._manager.save, step, args=ocp.args.Composite(**items), force=True))
        faults.point("checkpoint")

    def latest_step(self) -> int | None:
        """Step of the newest complete checkpoint."""
        for attempt in range(LIST_ATTEMPTS):
            try:
                self._manager.reload()  # Orbax caches the list of steps
                break
            except FileNotFoundError:  # the trainer pruned a step while Orbax was looking at it
                if attempt == LIST_ATTEMPTS - 1:
                    raise
        return self._manager.latest_step()

    def restore(self, step: int, params: dict, optimizer: Any) -> tuple[dict, Any, dict]:
        """Reads parameters, optimizer and data position.

        Args:
            params, optimizer: trees of the shapes that are expected.

        Raises:
            Damaged: the checkpoint is not what was written.
            ConfigError: it has another structure or other shapes.
        """
        restored = self._restore(step, {**params, "optimizer": optimizer}, with_data=True)
        data = restored.pop("data")
        optimizer = restored.pop("optimizer")
        return restored, optimizer, data

    def restore_params(self, step: int, params: dict) -> dict:
        """Reads parts of the parameters, while the checkpoint is pinned. Raises ConfigError on another shape."""
        pin = self._pins / f"{step}.{socket.gethostname()}.{os.getpid()}"
        pin.parent.mkdir(parents=True, exist_ok=True)
        pin.touch()
        try:
            return self._restore(step, params, with_data=False)
        finally:
            pin.unlink(missing_ok=True)

    def _restore(self, step: int, trees: dict, with_data: bool) -> dict:
        items = {name: ocp.args.StandardRestore(_as_shapes(tree)) for name, tree in trees.items()}
        if with_data:
            items["data"] = ocp.args.JsonRestore()
        if (self._folder / str(step) / CHECKSUMS).exists():
            items[CHECKSUMS] = ocp.args.JsonRestore()
        try:
            restored = self._read(step, items)
        except RunError:
            raise
        except Exception as error:  # Orbax has no type of its own for it
            reason = str(error).splitlines()[0][:300]
            saved = self._saved_structure(step) if CHECKSUMS in items else {}
            if saved is None or _structure(trees).items() <= saved.items():
                raise Damaged(self._is_damaged(step, reason)) from error
            raise ConfigError(
                f"checkpoint {self._folder}/{step} does not fit this config or is damaged ({reason}): "
                "delete that step to go on from the one before, or use another --workdir"
            ) from error
        if CHECKSUMS not in items:
            log.warning(f"checkpoint {self._folder}/{step} is of an earlier version, which made no checksums")
        saved = restored.pop(CHECKSUMS, {})
        found = {name: _checksum(restored[name]) for name in trees if name in saved}
        if with_data and "data" in saved:
            found["data"] = crc_of_json(restored["data"])
        damaged = [name for name in found if found[name] != saved[name]]
        if damaged:
            raise Damaged(self._is_damaged(step, f"{', '.join(damaged)} differ from their checksums"))
        return restored

    def _read(self, step: int, items: dict) -> dict:
        """Orbax's restore, on a thread: it would take a signal that ends this one for what is wrong with the files."""
        read = functools.partial(self._manager.restore, step, args=ocp.args.Composite(**items))
        return dict(self._waiting.result(self._waiting.submit(read)).items())

    def _is_damaged(self, step: int, how: str) -> str:
        return f"checkpoint {self._folder}/{step} is damaged ({how}): delete that step to go on from the one before"

    def _saved_structure(self, step: int) -> dict | None:
        """That of the trees that were saved; None if it cannot be read."""
        try:
            return self._read(step, {CHECKSUMS: ocp.args.JsonRestore()})[CHECKSUMS].get(STRUCTURE, {})
        except Exception:  # Orbax has no type of its own for it; whoever asks has a better one to raise
            return None

    def set_aside(self, step: int) -> epath.Path | None:
        """Moves a damaged checkpoint out of the way, and says where to; None if it is the only one."""
        if len(self._manager.all_steps()) < 2:
            return None
        target = self._folder.parent / DAMAGED / f"{step}-{time.time():.0f}"
        move(self._folder / str(step), target)
        self._manager.reload()
        return target

    def wait(self) -> None:
        """Returns when all saves are on disk.

        Raises:
            ConfigError: the disk is full, or cannot be written.
            RunError: they are not on disk in time.
        """
        self._in_time(self._manager.wait_until_finished)
        faults.point("committed")

    def _in_time(self, work: Callable) -> None:
        """Does what can wait for a save, which Orbax does without a deadline."""
        with self._writing():
            self._waiting.result(self._waiting.submit(work))

    def close(self) -> None:
        """Finishes the saves and stops Orbax's threads. Raises like `wait`."""
        try:
            self.wait()
        finally:
            wait([self._waiting.submit(self._manager.close)], timeout=CLOSE_S)
            self._waiting.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Says in one line that the disk failed; of Orbax's storage that is a ValueError with the error's number."""
        try:
            yield
        except (OSError, ValueError) as error:
            number = re.search(r"os_error_code='(\d+)'", str(error))
            if isinstance(error, ValueError) and number is None:
                raise
            reason = os.strerror(int(number[1])) if number else error
            raise ConfigError(
                f"cannot save a checkpoint in {self._folder}: {reason}: free some space, rerun"
            ) from error

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exception) -> None:
        self.close()


class _Pinned:
    """Preservation policy: keeps checkpoints that another process is reading."""

    def __init__(self, pins: epath.Path):
        self._pins = pins

    def should_preserve(self, checkpoints, *, context) -> list[bool]:
        """Whether to keep each of the checkpoints."""
        del context
        pinned = set()
        for pin in self._pins.glob("*") if self._pins.exists() else ():
            try:
                if time.time() - pin.stat().mtime < PIN_EXPIRES_S:
                    pinned.add(int(pin.name.split(".")[0]))
                else:
                    pin.unlink(missing_ok=True)
            except FileNotFoundError:  # its reader has just finished
                continue
        return [checkpoint.step in pinned for checkpoint in checkpoints]


def _as_arrays(tree: Any) -> Any:
    return jax.tree.map(lambda x: x if isinstance(x, jax.Array) else np.asarray(x), tree)


def _checksum(tree: Any) -> int:
    """CRC-32 of all arrays, in their order and the types in which they come back.

    JAX keeps the copies on the host that it makes for it.
    """
    total = 0
    for leaf in jax.tree.leaves(tree):
        array = np.asarray(leaf, jax.dtypes.canonicalize_dtype(leaf.dtype))
        total = zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8), total)
    return total


def _structure(trees: dict) -> dict[str, int]:
    """A CRC-32 of the names and shapes of each tree's arrays."""

    def crc(tree: Any) -> int:
        leaves = jax.tree_util.tree_leaves_with_path(tree)
        return zlib.crc32(repr([(jax.tree_util.keystr(path), leaf.shape) for path, leaf in leaves]).encode())

    return {name: crc(tree) for name, tree in trees.items()}


def _as_shapes(tree: Any) -> Any:
    sharding = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)
