"""The tasks of `gpu_experiment.py`: the product's own, which also stop by a step or by the clock."""

import time

from realm_jax.training.finetune_task import FinetuneTask
from realm_jax.training.ict_task import IctTask
from realm_jax.training.pretrain_task import PretrainTask

LAST_S = 15  # of the time, for what follows a phase


class Clock:
    """What is left of the time."""

    def __init__(self, seconds: float):
        self.seconds, self._started = seconds, time.monotonic()

    def at(self, share: float) -> float:
        """The moment at which a share of the time is over."""
        return self._started + share * self.seconds - (LAST_S if share == 1 else 0)

    def left(self) -> float:
        """Seconds, but for the last."""
        return self.at(1) - time.monotonic()

    def spent(self) -> float:
        """Seconds."""
        return time.monotonic() - self._started


class Stops:
    """For a task: stops it after `last_step`, or at the first checkpoint after the moment `ends`."""

    last_step, ends = 0, float("inf")

    def saves_at(self, step: int) -> bool:
        return step == self.last_step or super().saves_at(step)

    def is_over(self, step: int) -> bool:
        return 0 < step and (step == self.last_step or time.monotonic() > self.ends) or super().is_over(step)


class Ict(Stops, IctTask):
    """ICT that stops."""


class Realm(Stops, PretrainTask):
    """Pre-training that stops."""


class Finetune(Stops, FinetuneTask):
    """Fine-tuning that stops."""
