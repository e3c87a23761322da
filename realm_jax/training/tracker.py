"""Where the curves of a phase go besides `metrics.jsonl`: TensorBoard event files, or a Weights & Biases run.

A whole workdir is one run at Weights & Biases, whose id is kept in W/wandb.json, so that every phase and every restart
goes on with it; each phase has a step of its own (`pretrain/step`). WANDB_PROJECT, WANDB_ENTITY, WANDB_MODE and all
its other variables count.
"""

import os
import secrets
import tempfile
import time
from collections.abc import Mapping

from etils import epath
from tensorboardX import SummaryWriter

from realm_jax import buckets
from realm_jax.config import ConfigError
from realm_jax.workdir import read_json, write_json

PROJECT = "realm_jax"
FLUSH_S = 30.0


def open_tracker(folder: epath.Path, phase: str, first_step: int, last_step: int) -> "TensorBoard | WandbRun":
    """What the config of the run asks for; TensorBoard for what belongs to no run, such as a tagger.

    Args:
        folder: of the phase: W/pretrain, W/finetune/NAME.
        phase: goes in front of each metric's name; at Weights & Biases the folder does: `finetune/wq`.
        first_step: that training goes on from.
        last_step: up to which an earlier start, now repeated from `first_step`, has written metrics.

    Raises:
        ConfigError: Weights & Biases does not take the run.
    """
    for parent in (folder.parent, folder.parent.parent):
        if (parent / "config.json").exists():
            values = read_json(parent / "config.json")
            if values.get("tracker") == "wandb":
                return WandbRun(parent, values, folder.relative_to(parent).as_posix(), last_step)
            break
    return TensorBoard(folder, phase, first_step)


class TensorBoard:
    """Event files in the phase's folder; on an object store, copies of files on the local disk."""

    def __init__(self, folder: epath.Path, phase: str, first_step: int):
        self._phase, self._target = phase, folder / "tensorboard"
        remote = buckets.is_remote(folder)
        self._local = tempfile.TemporaryDirectory(prefix="realm-tensorboard-") if remote else None
        self._copied = time.monotonic()
        where = self._local.name if self._local else os.fspath(self._target)
        self._writer = SummaryWriter(where, purge_step=first_step, flush_secs=int(FLUSH_S))

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """One scalar for each of the values, which are finite."""
        for name, value in values.items():
            self._writer.add_scalar(f"{self._phase}/{name}", value, step)
        if self._local and time.monotonic() - self._copied > FLUSH_S:
            self._writer.flush()
            self._copy()

    def close(self) -> None:
        """Flushes the event file."""
        self._writer.close()
        if self._local:
            self._copy()
            self._local.cleanup()

    def _copy(self) -> None:
        local = epath.Path(self._local.name)
        buckets.copy_files([file.name for file in local.iterdir()], local, self._target)
        self._copied = time.monotonic()


class WandbRun:
    """A Weights & Biases run, which later phases and restarts go on with by the id in the workdir.

    Raises:
        ConfigError: the service cannot be reached, or wants a login.
    """

    def __init__(self, workdir: epath.Path, config: dict, phase: str, last_step: int):
        import wandb  # `Config.check` has seen that it is there

        self._phase = phase
        id_file = workdir / "wandb.json"
        # Steps that a restart repeats were sent before; the service cannot take them back, so the first ones stay.
        self._sent = last_step if id_file.exists() else 0
        if not id_file.exists():
            write_json(id_file, {"id": secrets.token_hex(4)})
        try:
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", PROJECT),
                name=workdir.name or config["name"],
                group=config["name"],
                id=read_json(id_file)["id"],
                resume="allow",
                config=config,
                dir=None if buckets.is_remote(workdir) else os.fspath(workdir),
                settings=wandb.Settings(console="off"),  # our progress lines are no log
            )
        except wandb.Error as error:
            raise ConfigError(
                f"Weights & Biases: {error}: run `wandb login`, set WANDB_MODE=offline, or pass --tracker=tensorboard"
            ) from error
        self._run.define_metric(f"{phase}/step", hidden=True)
        self._run.define_metric(f"{phase}/*", step_metric=f"{phase}/step")

    def write(self, step: int, values: Mapping[str, float]) -> None:
        """One point of each curve, unless an earlier start has sent this step."""
        if step > self._sent:
            self._run.log({f"{self._phase}/step": step, **{f"{self._phase}/{k}": v for k, v in values.items()}})

    def close(self) -> None:
        """Sends what is still in memory."""
        self._run.finish()
