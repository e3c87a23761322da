"""Metrics of a phase: a JSONL file with all of them, a tracker with web pages, and a line with the few to watch.

While its writer is open, a phase has the heartbeat of a live trainer (`realm_jax.heartbeat`).
"""

import json
import math
import time

from etils import epath

from realm_jax.buckets import GrowingFile
from realm_jax.console import Line
from realm_jax.heartbeat import Heartbeat
from realm_jax.progress import clock
from realm_jax.training.tracker import open_tracker
from realm_jax.workdir import write_text

WATCHED = {
    "loss": "loss {:.3f}",
    "utility": "utility {:+.3f}",
    "accuracy": "accuracy {:.3f}",
    "dev_exact_match": "exact match {:.3f}",
    "dev_f1": "F1 {:.3f}",
    "index_age_steps": "index age {:,.0f} steps",
}
"""The metrics that people see while training, and how they are written."""


class MetricsWriter:
    """Appends to `metrics.jsonl` in the phase's folder, sends to the run's tracker, and shows how far the phase is."""

    def __init__(self, folder: epath.Path, phase: str, total_steps: int, first_step: int):
        folder.mkdir(parents=True, exist_ok=True)
        self._total, self._first, self._started = total_steps, first_step, time.monotonic()
        self.last_step, last_step = _drop_records_after(folder / "metrics.jsonl", first_step)
        """The last one that is recorded, up to the first one of this writer; 0 if none is."""
        self._records = GrowingFile(folder / "metrics.jsonl")
        self._tracker = open_tracker(folder, phase, first_step, last_step)
        self._heartbeat = Heartbeat(folder, role="trainer", phase=phase, steps=total_steps)
        self._line = Line(phase)
        self._line.show(first_step, total_steps, "compiling")

    def write(self, step: int, values: dict[str, float]) -> None:
        """Records the metrics of the steps up to `step`."""
        self.last_step = step
        record = {"step": step, "time": round(time.time(), 3), **{k: _plain(v) for k, v in values.items()}}
        self._records.append(json.dumps(record) + "\n")
        self._tracker.write(step, {name: value for name, value in values.items() if math.isfinite(value)})
        seconds_a_step = (time.monotonic() - self._started) / max(1, step - self._first)
        left = f"{clock(seconds_a_step * (self._total - step))} left"
        step_s = max(values.get("step_seconds", seconds_a_step), 1e-9)
        rate = f"{1 / step_s:.1f} steps/s" if step_s < 1 else f"{step_s:.1f} s/step"
        watched = (form.format(values[name]) for name, form in WATCHED.items() if name in values)
        self._line.show(step, self._total, rate, left, *watched)

    def flush(self) -> None:
        """Makes what was written outlive a kill; due before a checkpoint, which a resumed run starts from."""
        self._records.flush()

    def close(self) -> None:
        """Closes the files, and says that the trainer has ended."""
        self._line.close()
        self._records.flush()
        self._tracker.close()
        self._heartbeat.close()


def _plain(value: float) -> float | None:
    return round(float(value), 6) if math.isfinite(value) else None


def _drop_records_after(file: epath.Path, step: int) -> tuple[int, int]:
    """A resumed run repeats the steps after its checkpoint; their old records go.

    Returns:
        the last step whose record stays, and the last of all.
    """
    if not file.exists():
        return 0, step
    text = file.read_text(encoding="utf-8")
    steps = {line: _step_of(line) for line in text.splitlines()}
    kept = "".join(line + "\n" for line in text.splitlines() if steps[line] <= step)
    if kept != text:
        write_text(file, kept)
    found = [int(of_line) for of_line in steps.values() if math.isfinite(of_line)]
    return max([0, *(of_line for of_line in found if of_line <= step)]), max([step, *found])


def _step_of(line: str) -> int | float:
    try:
        return json.loads(line)["step"]
    except (ValueError, RecursionError, KeyError, TypeError):  # a line torn by a kill
        return math.inf
