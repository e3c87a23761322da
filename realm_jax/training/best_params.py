"""The evaluations of a training so far, and the parameters of the best one, which outlive the loop's checkpoints."""

import jax
from etils import epath

from realm_jax.checkpoints import Checkpoints
from realm_jax.config import ConfigError
from realm_jax.workdir import read_json, write_json

EVALUATIONS = "evaluations.json"


class BestParams:
    """Keeps the parameters of the best evaluation.

    Args:
        folder: the training's.
        metric: name of the score, of which more is better.
    """

    def __init__(self, folder: epath.Path, metric: str):
        self._folder, self._metric = folder, metric
        file = folder / EVALUATIONS
        self.past: list[dict] = read_json(file)["evaluations"] if file.exists() else []
        """`step` and the metric of each evaluation, in order."""

    def add(self, step: int, params: dict, score: float) -> None:
        """Records an evaluation; evaluations of later steps, of a run that was killed, are forgotten."""
        before = [past for past in self.past if past["step"] < step]
        is_best = all(score > past[self._metric] for past in before)
        if is_best:
            best_folder(self._folder, step).rmtree(missing_ok=True)  # of a run that was killed after this step
            with Checkpoints(best_folder(self._folder, step)) as best:
                best.save(step, params)
        self.past = [*before, {"step": step, self._metric: score}]
        write_json(self._folder / EVALUATIONS, {"evaluations": self.past})
        for past in before if is_best else ():
            best_folder(self._folder, past["step"]).rmtree(missing_ok=True)

    @property
    def step(self) -> int | None:
        """The first step of the best score; None before the first evaluation."""
        return max(self.past, key=lambda past: (past[self._metric], -past["step"]))["step"] if self.past else None

    def restore(self, like: dict) -> dict:
        """The best parameters on the host, in the shapes of the given trees. Raises ConfigError if there are none."""
        if self.step is None:
            raise ConfigError(f"{self._folder} has no evaluation yet: run the command that trains it to its end")
        with Checkpoints(best_folder(self._folder, self.step), read_only=True) as checkpoints:
            return jax.device_get(checkpoints.restore_params(self.step, like))


def best_folder(folder: epath.Path, step: int) -> epath.Path:
    """Where the parameters of an evaluated step are kept while none are better."""
    return folder / f"best-{step:08d}"
