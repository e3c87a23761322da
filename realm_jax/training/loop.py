"""The only training loop: it runs a task from its last checkpoint to its last step.

Order of a resumed run: config -> first parameters -> optimizer state -> checkpoint over both -> data position ->
first batch. The loop knows no index: a task's stream may retrieve, since it is handed the parameters as they are
before each step. A checkpoint stores what the stream says of itself, so that a restart sees the same batches.

Where several processes train, each runs this loop; the first one saves, evaluates and reports, and all stop together.
"""

import io
import logging
import signal
import time
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from etils import epath
from jaxtyping import Array, Float, PRNGKeyArray

from realm_jax import faults, parallel, processes, signals
from realm_jax.checkpoints import Checkpoints
from realm_jax.checksums import Damaged
from realm_jax.config import RunError
from realm_jax.training.metrics import MetricsWriter

log = logging.getLogger(__name__)

NO_CHECKPOINT = -1


class NonFiniteLoss(RunError):
    """Training diverged; the message names the step."""


@runtime_checkable
class Stream(Protocol):
    """Batches of a task, already split over the devices."""

    def take(self, params: Any) -> Any:
        """The next batch. `params` are the replicated parameters before the step that will use it."""

    def state(self) -> dict:
        """JSON from which `Task.stream` makes a stream that continues with the batch after the last one taken."""

    def metrics(self) -> dict[str, float]:
        """What the stream measured since it was last asked."""

    def close(self) -> None:
        """Stops its threads."""


class Task:
    """What differs between ICT, pre-training and fine-tuning."""

    name: str
    steps: int
    log_every: int
    seed: int
    micro_batches: int = 1
    """How many parts a device's share of a batch is: `loss` sees one after the other, and gradients are added up."""

    def init(self) -> dict:
        """First parameters, a dict of parts (`embedder`, `encoder`)."""
        raise NotImplementedError

    def optimizer(self) -> optax.GradientTransformation:
        """What turns gradients into updates, clipping included."""
        raise NotImplementedError

    def loss(self, params: Any, batch: Any, rng: PRNGKeyArray) -> tuple[Float[Array, ""], Float[Array, ""], dict]:
        """(sum, count, metrics as pairs) over one device's share of the batch."""
        raise NotImplementedError

    def stream(self, state: dict) -> Stream:
        """`state` is empty at the start of training."""
        raise NotImplementedError

    def saves_at(self, step: int) -> bool:
        """Whether a checkpoint is due once `step` steps are taken."""
        raise NotImplementedError

    def evaluates_at(self, step: int) -> bool:
        """Whether `evaluate` is due after `step` steps, at which a checkpoint is."""
        del step
        return False

    def evaluate(self, step: int, params: Any) -> dict[str, float]:
        """Judges the replicated parameters; what it returns joins the metrics. On the first process only.

        Called once the checkpoint of `step` is on disk, and again after a restart from it, if it was broken off.
        """
        raise NotImplementedError

    def builds_index_at(self, step: int) -> bool:
        """Whether `build_index` is due after `step` steps."""
        del step
        return False

    def build_index(self, step: int, params: Any) -> None:
        """Builds an index version of the replicated parameters inside the trainer, unless it is there.

        Called on all processes once the checkpoint of `step` is on disk, and again after a restart from it.
        """
        raise NotImplementedError

    def is_over(self, step: int) -> bool:
        """Whether training ends early, after `step` steps; asked where a checkpoint is due, on the first process."""
        del step
        return False


def run(task: Task, folder: epath.PathLike) -> dict:
    """Trains and returns the final parameters on the host.

    Raises:
        NonFiniteLoss: the loss was NaN or infinite; no checkpoint has that state.
        signals.Stopped: SIGTERM or SIGINT; the state is saved.
        ConfigError: the checkpoint does not fit the config.
    """
    with Checkpoints(folder, read_only=not processes.is_first()) as checkpoints, _Stop() as stop:
        start = time.monotonic()
        optimizer = task.optimizer()
        step, params, opt_state, stream_state = _restore_or_init(task, optimizer, checkpoints)
        state = parallel.replicate(parallel.TrainState(jnp.int32(step), params, opt_state))
        del params, opt_state
        train_step = parallel.compiled_train_step(task.loss, optimizer, task.seed, task.micro_batches)
        keeper = _Keeper(task, epath.Path(folder), checkpoints, step)
        stream = task.stream(stream_state)
        try:
            if not stream_state:
                keeper.save(0, state, stream, {})
            else:  # the stream has loaded the version before it, which this one may prune
                keeper.settle(step, state, stream_state.get("unreported", {}))
            window, number, saved = _Window(step, epath.Path(folder)), 0, step
            is_over = processes.from_first(task.is_over(step))
            faults.point("compile")
            while step < task.steps and not is_over:
                try:
                    batch = stream.take(state.params)
                except signals.Ended as ended:  # while it waited for an index
                    number = ended.number
                    if step > saved:
                        keeper.save(step, state, stream, {**window.close(step), **stream.metrics()})
                    break
                state, metrics = train_step(state, batch)
                step, signals.has_unsaved = step + 1, True
                faults.point(f"{task.name} step")
                window.add(metrics, batch)
                number = stop.anywhere()  # read once: a later signal waits for the next step, which saves
                saves = step == task.steps or task.saves_at(step) or bool(number)
                if saves or step % task.log_every == 0:
                    values = {**window.close(step), **stream.metrics()}
                    if not saves:
                        keeper.report(step, values)
                if saves:
                    saved = step
                    keeper.save(step, state, stream, values)
                    if not number:
                        keeper.settle(step, state, values)
                        window.restart()
                    is_over = number or processes.from_first(task.is_over(step))
            keeper.wait()  # until then a signal gives it time
            if number := number or stop.anywhere():
                what = f"{task.name} stopped by {signal.Signals(number).name} at step {step}; its state is saved"
                raise signals.Stopped(what, number)
        finally:
            signals.has_unsaved = False
            stream.close()
            keeper.close()
        log.info(f"{task.name}: {step} steps done in {time.monotonic() - start:.0f} s")
        return jax.device_get(parallel.unreplicate(state.params))


def _restore_or_init(task: Task, optimizer, checkpoints: Checkpoints) -> tuple[int, dict, Any, dict]:
    latest = checkpoints.latest_step()
    latest = processes.from_first(NO_CHECKPOINT if latest is None else latest)
    if latest == NO_CHECKPOINT:
        params = task.init()
        return 0, params, optimizer.init(params), {}
    shapes = jax.eval_shape(task.init)
    damaged = None
    try:
        params, opt_state, stream_state = checkpoints.restore(latest, shapes, jax.eval_shape(optimizer.init, shapes))
    except Damaged as error:
        damaged = error
    if not processes.least(damaged is None):  # one process that finds it damaged is enough
        _set_aside(checkpoints, latest, damaged)
        return _restore_or_init(task, optimizer, checkpoints)
    log.info(f"{task.name}: resuming from step {latest:,} of {task.steps:,}")
    return latest, params, opt_state, stream_state


def _set_aside(checkpoints: Checkpoints, step: int, damaged: Damaged | None) -> None:
    """Moves a checkpoint away, by the first process. Raises Damaged on all if it cannot be."""
    damaged = damaged or Damaged(f"another process finds the checkpoint of step {step:,} damaged")
    aside = checkpoints.set_aside(step) if processes.is_first() else None
    if not processes.from_first(aside is not None):
        raise damaged
    log.warning(f"{damaged}; done{f': it is now {aside}' if aside else ''}")


class _Keeper:
    """Saves states and reports on them: all of it on the first process, but for building an index."""

    def __init__(self, task: Task, folder: epath.Path, checkpoints: Checkpoints, first_step: int):
        self._task, self._checkpoints = task, checkpoints
        self._writer = MetricsWriter(folder, task.name, task.steps, first_step) if processes.is_first() else None

    def report(self, step: int, values: dict[str, float]) -> None:
        """Writes a line of metrics."""
        if self._writer:
            self._writer.write(step, values)

    def save(self, step: int, state: parallel.TrainState, stream: Stream, values: dict[str, float]) -> None:
        """Saves a state with the metrics of its steps, which are reported once it is settled."""
        stream_state = stream.state()
        if self._writer:
            self._writer.flush()  # a run that is resumed from here writes no earlier line again
            single = parallel.unreplicate(state)
            data = {**stream_state, "unreported": values}
            self._checkpoints.save(step, single.params, single.opt_state, data)

    def settle(self, step: int, state: parallel.TrainState, values: dict[str, float]) -> None:
        """Does what a saved state still owes: its evaluation, its metrics, its index version; nothing that is done.

        A signal ends the process meanwhile, since nothing is lost: a restart from the state comes here again.
        """
        evaluates, builds = self._task.evaluates_at(step), self._task.builds_index_at(step)
        if evaluates or builds:
            self._checkpoints.wait()
            signals.has_unsaved = False
        if self._writer and values and self._writer.last_step < step:
            self.report(step, {**values, **(self._task.evaluate(step, state.params) if evaluates else {})})
            self._writer.flush()
        if builds:
            # A restart from an earlier one would need versions that this build, by whichever process, may prune.
            processes.wait_for_all("the checkpoint is on disk")
            self._task.build_index(step, state.params)

    def wait(self) -> None:
        """Returns, on all processes, when all states are on disk."""
        self._checkpoints.wait()
        processes.wait_for_all("all states are on disk")

    def close(self) -> None:
        """Closes the files of metrics."""
        if self._writer:
            self._writer.close()


class _Window:
    """Device metrics of the steps since the last line, fetched together so that the devices are not held up."""

    def __init__(self, step: int, folder: epath.Path):
        self._first, self._steps, self._folder = step, [], folder
        self._batches: list[Any] = []
        self.restart()

    def restart(self) -> None:
        """Leaves the time until now out of the rates."""
        self._started = time.monotonic()

    def add(self, metrics: dict, batch: Any) -> None:
        self._steps.append(metrics)
        self._batches.append(batch)  # on the host

    def close(self, step: int) -> dict[str, float]:
        """Means over the window weighted by count, `tokens` as a rate; starts the next window.

        Raises:
            NonFiniteLoss: of a step, whose batch is kept in a file.
        """
        fetched = jax.device_get([parallel.unreplicate(metrics) for metrics in self._steps])
        for i, metrics in enumerate(fetched):
            if not np.isfinite(metrics["loss"][0]):
                file = _keep(self._batches[i], self._folder, self._first + i + 1)
                raise NonFiniteLoss(
                    f"loss is {metrics['loss'][0]} at step {self._first + i + 1}: lower the learning rate and rerun; "
                    f"the checkpoint before it is kept, and the step's batch in {file}"
                )
        elapsed = time.monotonic() - self._started
        values = {}
        for name in fetched[0] if fetched else ():
            total, count = (sum(float(m[name][i]) for m in fetched) for i in (0, 1))
            if name == "tokens":
                values["tokens_per_second"] = total / elapsed
            else:
                values[name] = total / count if count else float("nan")
        self._first, self._steps, self._batches = step, [], []
        self.restart()
        return {**values, "step_seconds": elapsed / max(1, len(fetched))}


def _keep(batch: Any, folder: epath.Path, step: int) -> epath.Path:
    """Writes a batch's arrays, by their names, [devices, …] of this process: to be looked at, or computed again."""
    arrays = {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(batch)}
    file = folder / f"batch-{step}-of-process-{processes.this().index}.npz"
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)
    file.write_bytes(content.getvalue())
    return file


class _Stop:
    """Turns SIGTERM and SIGINT into a flag that the loop reads between steps; a second signal acts at once."""

    def __init__(self):
        self._all_reduce = processes.AllReduce()
        self._previous: dict[int, Callable | int | None] = {}

    def __enter__(self) -> "_Stop":
        for number in signals.HANDLED:
            try:
                self._previous[number] = signal.signal(number, self._receive)
            except ValueError:  # not in the main thread: whoever runs us there handles signals
                break
        return self

    def _receive(self, number: int, frame: Any) -> None:
        del frame
        signals.flagged = number
        signal.signal(number, signal.SIG_DFL)

    def anywhere(self) -> int:
        """Number of the signal that this process or another one received, or 0; all learn it at the same step."""
        return self._all_reduce.reduce(signals.flagged).greatest

    def __exit__(self, *exception) -> None:
        signals.flagged = 0
        for number, handler in self._previous.items():
            signal.signal(number, handler)
