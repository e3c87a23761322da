"""Metrics of a phase: one console line with a bar and the time left, a JSONL file and TensorBoard events."""

import json
import math
import time

from etils import epath
from tensorboardX import SummaryWriter

from realm_jax.progress import clock

BAR_WIDTH = 20


class MetricsWriter:
    """Appends to `metrics.jsonl` and TensorBoard under the phase's folder, and prints."""

    def __init__(self, folder: epath.Path, phase: str, total_steps: int, first_step: int):
        folder.mkdir(parents=True, exist_ok=True)
        self._phase, self._total, self._first = phase, total_steps, first_step
        self._started = time.monotonic()
        self._file = folder / "metrics.jsonl"
        _drop_records_after(self._file, first_step)
        self._tensorboard = SummaryWriter(str(folder / "tensorboard"), purge_step=first_step, flush_secs=30)

    def write(self, step: int, values: dict[str, float]) -> None:
        """Records the metrics of the steps up to `step`."""
        record = {"step": step, "time": round(time.time(), 3), **{k: _plain(v) for k, v in values.items()}}
        with self._file.open("a") as file:
            file.write(json.dumps(record) + "\n")
        for name, value in values.items():
            if math.isfinite(value):
                self._tensorboard.add_scalar(f"{self._phase}/{name}", value, step)
        self._print(step, values)

    def _print(self, step: int, values: dict[str, float]) -> None:
        share = step / self._total
        filled = int(share * BAR_WIDTH)
        elapsed = time.monotonic() - self._started
        left = elapsed / max(1, step - self._first) * (self._total - step)
        shown = "  ".join(f"{name} {value:.4g}" for name, value in values.items())
        bar = "#" * filled + "." * (BAR_WIDTH - filled)
        print(f"{self._phase} [{bar}] {step}/{self._total}  {shown}  ETA {clock(left)}", flush=True)

    def close(self) -> None:
        """Flushes the event file."""
        self._tensorboard.close()


def _plain(value: float) -> float | None:
    return round(float(value), 6) if math.isfinite(value) else None


def _drop_records_after(file: epath.Path, step: int) -> None:
    """A resumed run repeats the steps after its checkpoint; their old records go."""
    if not file.exists():
        return
    text = file.read_text()
    kept = "".join(line + "\n" for line in text.splitlines() if _step_of(line) <= step)
    if kept != text:
        file.write_text(kept)


def _step_of(line: str) -> int | float:
    try:
        return json.loads(line)["step"]
    except (json.JSONDecodeError, KeyError):  # a line torn by a kill
        return math.inf
