"""The product on one GPU: training steps, embedding, search and rounding, beside what the device can do.

    python benchmarks/gpu.py [--minutes=10] [--parts=step_base,search] [--out=FOLDER]

Each part is a process of its own with a time limit, so that each has the whole GPU, and one that fails is recorded as
failed while the others go on; those for which no time is left are skipped. Weights are random and wordpieces too, with
the lengths that Wikipedia's leads have (`random_batches.py`): no network is needed.
Writes benchmarks/results/gpu.json after every part, and into --out, too, with the log. COMMIT=… names the commit where
the files were copied without their history.
"""

import argparse
import dataclasses
import importlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import threading
import time

import gpu_table
from report import write_result

ROW = "row: "
LEAST_S = 8.0  # less is not enough for a process to start
DRY_LIMIT_S = 600.0  # a busy CPU compiles slowly
MEMORY = {"XLA_PYTHON_CLIENT_PREALLOCATE": "true", "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.92"}
NOTE = (
    "Weights and wordpieces are random, lengths as in Wikipedia's leads. Medians of three repeats. padded: FLOPs of "
    "all positions, real: of real wordpieces and predictions alone; shares are of the bfloat16 matmul's rate. An "
    "attention module's projections are in its time. lax.top_k takes 64 queries at a time."
)


@dataclasses.dataclass(frozen=True)
class Part:
    """A generator of rows, to be run in a process of its own."""

    function: str
    limit_s: float
    arguments: dict = dataclasses.field(default_factory=dict)

    def rows(self, *, dry: bool):
        """Imports what it needs only now."""
        module, name = self.function.split(".")
        return getattr(importlib.import_module(module), name)(**self.arguments, dry=dry)


KEPT = {"gradient_checkpointing": True}
FUSED = {"attention_dropout": False}
PARTS = {
    "ceilings": Part("gpu_kernels.ceilings", 40),
    "attention": Part("gpu_kernels.attention", 70),
    "search": Part("gpu_kernels.search", 70),
    "step_minilm": Part("gpu_steps.step", 180, {"name": "minilm", "first": 32}),
    "step_base": Part("gpu_steps.step", 300, {"name": "base", "first": 16}),
    "step_base_fused": Part("gpu_steps.step", 300, {"name": "base", "first": 16, **FUSED}),
    "embedding_base": Part("gpu_steps.embedding", 90, {"name": "base"}),
    "embedding_minilm": Part("gpu_steps.embedding", 60, {"name": "minilm"}),
    "gradients_minilm": Part("gpu_steps.gradients", 120, {"name": "minilm"}),
    "step_minilm_checkpointed": Part("gpu_steps.step", 180, {"name": "minilm", "first": 256, **KEPT}),
    "step_base_checkpointed": Part("gpu_steps.step", 300, {"name": "base", "first": 128, **KEPT}),
    "gradients_base": Part("gpu_steps.gradients", 200, {"name": "base"}),
    "step_base_rbg": Part("gpu_steps.step", 300, {"name": "base", "first": 16, "prng": "rbg"}),
}
"""By name: first what compiles in seconds, then the most valuable. A step of 6 layers has taken a minute to compile."""


def main() -> None:
    """Runs the parts and writes what they say; with --part, is such a part."""
    flags = _flags()
    if flags.part:
        for row in PARTS[flags.part].rows(dry=flags.dry_run):
            print(ROW + json.dumps({key: _rounded(value) for key, value in row.items()}), flush=True)
        return
    name, deadline = ("gpu_dry_run" if flags.dry_run else "gpu"), time.monotonic() + 60 * flags.minutes
    if flags.dry_run:
        os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "1"  # compiling is all the time it takes
    values: dict = {"xla_flags": os.environ.get("XLA_FLAGS", ""), "parts": {}}
    for part in flags.parts.split(","):
        command = [sys.executable, __file__, f"--part={part}", *(["--dry_run"] if flags.dry_run else [])]
        left = deadline - time.monotonic()
        limit_s = min(left, DRY_LIMIT_S if flags.dry_run else PARTS[part].limit_s)
        done = {"skipped": "no time was left"} if left < LEAST_S else run(command, limit_s)
        log = done.pop("log", "")
        values["parts"][part] = done
        print(f"{part}: {done.get('seconds', 0)} s, {done.get('error', done.get('skipped', 'done'))}", flush=True)
        path = write_result(name, values, NOTE)
        if flags.out:
            flags.out.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, flags.out)
            with (flags.out / f"{name}.log").open("a") as file:
                file.write(f"== {part}\n{log}\n")
    if flags.dry_run:
        path.unlink()  # nothing was measured
    print(f"{path}\n\n{gpu_table.markdown(values)}")


def _flags() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default=",".join(PARTS), help="names, with commas between, in the order to run")
    parser.add_argument("--minutes", type=float, default=10.0, help="for all parts together")
    parser.add_argument("--out", type=pathlib.Path, help="folder for a copy of the result and for the log")
    parser.add_argument(
        "--dry_run", action="store_true", help="tiny sizes, to see that all runs; writes into --out alone"
    )
    parser.add_argument("--part", choices=PARTS, help="run this part here and print its rows")
    flags = parser.parse_args()
    if unknown := set(flags.parts.split(",")) - set(PARTS):
        parser.error(f"--parts: {', '.join(sorted(unknown))} is unknown: use some of {', '.join(PARTS)}")
    return flags


def run(command: list[str], limit_s: float) -> dict:
    """Rows that a process printed within its time, its seconds and its log, and the error that ended it, if one did."""
    start = time.monotonic()
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env={**os.environ, **MEMORY},
    )
    timer = threading.Timer(limit_s, process.kill)
    timer.start()
    rows, log = [], []
    for line in process.stdout:
        if line.startswith(ROW):
            rows.append(json.loads(line.removeprefix(ROW)))
        else:
            log.append(line.rstrip())
    code = process.wait()
    timer.cancel()
    done = {"seconds": round(time.monotonic() - start, 1), "rows": rows, "log": "\n".join(log)}
    if done["seconds"] >= limit_s:
        done["error"] = f"stopped after {limit_s:.0f} s"
    elif code:
        last = next((line for line in reversed(log) if line.strip()), "")
        done["error"] = f"exit status {code}: {last[:500]}"
    return done


def _rounded(value):
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


if __name__ == "__main__":
    main()
