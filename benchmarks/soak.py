"""A small run whose processes are ended at random, again and again; then it is trained once more by its record.

    make soak MINUTES=120

The index builder is ended every minute or so and the trainer every five, by SIGKILL, SIGTERM or SIGINT, and started
again at once. Then the trainer is stopped, and `realm replay` trains from the beginning with the index
versions that were recorded to be in use: all parameters have to be the same. The same command goes on with a replay
that was broken off; before it, the minutes begin anew, on the same run. Writes benchmarks/results/NAME.json.
"""

import argparse
import collections
import contextlib
import dataclasses
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
from report import write_result

from realm_jax.experiments_file import load_experiment
from realm_jax.index.history import History
from realm_jax.workdir import Workdir

REPOSITORY = Path(__file__).resolve().parents[1]
EVERY_S = {"builder": 60.0, "pretrain": 300.0}
"""Mean seconds that a process lives, between half and one and a half of it."""
SAMPLE_S, DEADLINE_S = 5.0, 120.0
SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
CHECKPOINT_EVERY, REFRESH_EVERY, MAX_AGE = 200, 200, 600
SETTLED = 60.0  # seconds of a process's life before its memory is looked at
NOTE = (
    "Mini's model, one device. Slopes are medians over the lives of processes, from their second minute on, in which "
    "batches of new sizes are compiled; the replay is one long life, whose slope is over its second half."
)


class Ended:
    """A process of the run, which lives for a random time, and is then ended and started again."""

    def __init__(self, command: str, workdir: Path, rng: random.Random):
        self.command, self._workdir, self._rng = command, workdir, rng
        self.ended: collections.Counter[str] = collections.Counter()
        self.slopes: dict[str, list[float]] = {"KiB a second": [], "descriptors a minute": []}
        self.log = workdir / f"{command}.log"
        self.start()

    def start(self) -> None:
        """Starts it; its log has all its lives."""
        environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "1"}
        command = [sys.executable, "-m", "realm_jax", self.command, f"--workdir={self._workdir}"]
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                command, cwd=REPOSITORY, env=environment, stdout=log, stderr=subprocess.STDOUT
            )
        self._born = time.monotonic()
        self._until = self._born + EVERY_S[self.command] * self._rng.uniform(0.5, 1.5)
        self._samples: list[tuple[float, int, int]] = []

    def look(self) -> bool:
        """Takes a sample of its memory; whether its time is over. Raises RuntimeError if it ended by itself."""
        if self.process.poll() is not None:
            raise RuntimeError(f"{self.command} ended with {self.process.returncode}:\n{self.log.read_text()[-3000:]}")
        found, age = psutil.Process(self.process.pid), time.monotonic() - self._born
        if age > SETTLED:
            self._samples.append((age, found.memory_info().rss, found.num_fds()))
        return time.monotonic() > self._until

    def end(self, number: signal.Signals) -> float:
        """Ends it; returns the seconds that took. Raises RuntimeError if the status is another than the signal's."""
        started = time.monotonic()
        self.process.send_signal(number)
        status = self.process.wait(timeout=DEADLINE_S)
        if status != (-number if number == signal.SIGKILL else 128 + number):
            raise RuntimeError(
                f"{self.command} ended with {status} after {number.name}: {self.log.read_text()[-3000:]}"
            )
        self.ended[number.name] += 1
        if len(self._samples) > 10:
            ages, memory, descriptors = np.array(self._samples, float).T
            self.slopes["KiB a second"].append(np.polyfit(ages, memory, 1)[0] / 1024)
            self.slopes["descriptors a minute"].append(60 * np.polyfit(ages, descriptors, 1)[0])
        return time.monotonic() - started


class Soak:
    """The run and what is counted."""

    def __init__(self, workdir: Path, seed: int):
        self.workdir, self._rng = workdir, random.Random(seed)
        self.lost_after_kill: list[int] = []
        self.lost_saved = self.lost_after_stop = 0
        self.seconds: dict[str, list[float]] = {"builder": [], "pretrain": []}

    def run(self, minutes: float) -> dict:
        """Runs for so many minutes; returns what was counted."""
        self.trainer = Ended("pretrain", self.workdir, self._rng)
        self._wait_for(lambda: (self.workdir / "index").exists())
        self.builder = Ended("builder", self.workdir, self._rng)
        until = time.monotonic() + 60 * minutes
        while time.monotonic() < until:
            time.sleep(SAMPLE_S)
            for part in (self.builder, self.trainer):
                if part.look():
                    self._again(part, self._rng.choice(SIGNALS))
            left = (until - time.monotonic()) / 60
            print(f"\r{last_step(self.workdir):,} steps, {left:.0f} minutes left ", end="", flush=True)
        self.trainer.end(signal.SIGTERM)
        self.builder.end(signal.SIGKILL)
        return self.values()

    def _again(self, part: Ended, number: signal.Signals) -> None:
        is_trainer = part is self.trainer
        before, saved = last_step(self.workdir), self._saved()
        seconds = part.end(number)
        if number != signal.SIGKILL:
            self.seconds[part.command].append(round(seconds, 2))
        size = part.log.stat().st_size
        part.start()
        if not is_trainer:
            return
        stopped = last_step(self.workdir) if number != signal.SIGKILL else 0
        self._wait_for(lambda: "resuming from step" in part.log.read_text()[size:])
        resumed = int(re.findall(r"resuming from step ([\d,]+)", part.log.read_text()[size:])[-1].replace(",", ""))
        self.lost_saved += max(0, saved - resumed)
        if number == signal.SIGKILL:
            self.lost_after_kill.append(max(0, before - resumed))
        else:
            self.lost_after_stop += max(0, stopped - resumed)

    def _wait_for(self, condition) -> None:
        started = time.monotonic()
        while not condition():
            if time.monotonic() > started + DEADLINE_S:
                raise RuntimeError(self.trainer.log.read_text()[-3000:])
            time.sleep(0.1)

    def _saved(self) -> int:
        """The last step that is saved."""
        folder = self.workdir / "pretrain" / "checkpoints"
        return max((int(path.name) for path in folder.glob("*") if path.name.isdigit()), default=0)

    def values(self) -> dict:
        """What was counted."""
        kinds = collections.Counter(event["event"] for event in History(self.workdir / "index").history())
        return {
            "steps": self._saved(),
            "versions published": kinds["published"],
            "versions adopted": kinds["adopted"],
            "damaged": kinds["damaged"],
            "the trainer was ended": dict(self.trainer.ended),
            "the builder was ended": dict(self.builder.ended),
            "seconds to the end, by a signal, at most": {
                name: max(seconds, default=None) for name, seconds in self.seconds.items()
            },
            "saved steps lost": self.lost_saved,
            "steps lost after SIGTERM or SIGINT": self.lost_after_stop,
            "steps since the last checkpoint, done again after SIGKILL, at most": max(self.lost_after_kill, default=0),
            **{
                f"{part.command}: {what}": round(float(np.median(slopes)), 2)
                for part in (self.trainer, self.builder)
                for what, slopes in part.slopes.items()
                if slopes
            },
        }


def begin(workdir: Path) -> None:
    """The run's config: no end, a builder beside, which the trainer waits for if it is too far behind."""
    config = load_experiment("experiments/mini.py")
    every = {"checkpoint_every": CHECKPOINT_EVERY, "index_refresh_every": REFRESH_EVERY, "log_every": 10}
    config = dataclasses.replace(
        config,
        name="soak",
        ict=dataclasses.replace(config.ict, steps=0),
        pretrain=dataclasses.replace(config.pretrain, steps=10_000_000, **every),
        index=dataclasses.replace(
            config.index, max_age_steps=MAX_AGE, max_age_policy="pause", wait_timeout_s=DEADLINE_S
        ),
    )
    Workdir.create(workdir, config)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--workdir", type=Path, default=Path("runs/soak"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", default="soak", help="of the result; empty for none")
    flags = parser.parse_args()
    counted = flags.workdir / "soak.json"
    if not counted.exists():
        begin(flags.workdir)
        counted.write_text(json.dumps({"minutes": flags.minutes, **Soak(flags.workdir, flags.seed).run(flags.minutes)}))
    values = json.loads(counted.read_text())
    print(json.dumps(values, indent=1), flush=True)
    values["the replay"] = replay(flags.workdir, values["steps"])
    if flags.name:
        print(write_result(flags.name, values, NOTE))


def replay(workdir: Path, steps: int) -> dict:
    """Trains again by the record: its result and memory. Raises RuntimeError where parameters differ."""
    command = [sys.executable, "-m", "realm_jax", "replay", f"--workdir={workdir}", f"--steps={steps}"]
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "1"}
    samples: list[tuple[int, int]] = []
    with subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            time.sleep(SAMPLE_S)
            with contextlib.suppress(psutil.Error):  # it has ended
                samples.append((last_step(workdir / "replay"), psutil.Process(process.pid).memory_info().rss))
        said = process.stdout.read()
    if process.returncode or "the same bits in all arrays" not in said:
        raise RuntimeError(f"the replay ended with {process.returncode}: see above; the same command goes on with it")
    at, memory = np.array(samples[len(samples) // 2 :], float).T
    return {
        "parameters": "the same bits in all arrays",
        "steps in its second half": int(at[-1] - at[0]),
        "MiB in use, median of that half": round(float(np.median(memory)) / 2**20),
        "KiB a step": round(np.polyfit(at, memory, 1)[0] / 1024, 3),
    }


def last_step(workdir: Path) -> int:
    """The last step with metrics."""
    file = workdir / "pretrain" / "metrics.jsonl"
    lines = file.read_text().splitlines() if file.exists() else []
    steps = [json.loads(line)["step"] for line in lines[-2:] if line.endswith("}")]
    return max(steps, default=0)


if __name__ == "__main__":
    main()
