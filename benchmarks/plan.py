"""Does `realm plan` say what happens? Its memory beside the compiler's, its seconds beside those of real runs.

    python benchmarks/plan.py --parts memory               (compiles; another process may use the machine)
    python benchmarks/plan.py --parts seconds              (a quiet machine: two plans and a short real run each)

Memory: the steps of experiments as they are, and with micro-batches, checkpointing and scanned layers, compiled by XLA
for one CPU device with the schedule that saves memory. Seconds: mini, nano and squad are planned as `realm plan
--measure` does and by assumption; then ICT and pre-training run for some steps with everything that belongs to them,
the builder too, and the median of what metrics.jsonl says of a step is taken. SQuAD's paragraphs come with --squad=FILE
(see benchmarks/squad_recall.py). Writes benchmarks/results/plan.json.
"""

import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
from typing import Literal

import jax
import tyro
from compiled_memory import CPU_FLAGS
from report import RESULTS, write_result

from realm_jax.experiments_file import load_experiment
from realm_jax.plan import device_memory, longest_batch, planned
from realm_jax.plan.advice import changed
from realm_jax.plan.compiled import compiled_step
from realm_jax.training.fit import objective

GIB = 2**30
STEPS = 60  # of a short run, after which the index is refreshed once
LOOPED = {"model.scan_layers": True, "model.gradient_checkpointing": True}
WIDER = {"model.hidden_size": 256, "model.num_heads": 4, "model.intermediate_size": 1024, "model.num_layers": 6}
CASES: list[tuple[str, str, dict]] = [
    *((name, phase, {}) for name in ("mini", "nano", "squad") for phase in ("ict", "pretrain")),
    ("nano", "finetune", {}),
    ("nano", "pretrain", {"model.dropout": 0.1}),
    ("nano", "pretrain", {"model.dtype": "bfloat16"}),
    ("nano", "pretrain", {"pretrain.micro_batch": 4}),
    ("nano", "ict", {"ict.micro_batch": 16}),
    ("nano", "pretrain", {**LOOPED, **WIDER}),
    ("nano", "pretrain", {**LOOPED, **WIDER, "pretrain.micro_batch": 4}),
    ("nano", "pretrain", {**LOOPED, **WIDER, "pretrain.micro_batch": 4, "pretrain.micro_candidates": 1}),
    ("nano", "ict", {**LOOPED, **WIDER}),
    ("nano", "ict", {**LOOPED, **WIDER, "ict.micro_batch": 16}),
    ("nano", "finetune", {**LOOPED, **WIDER, "finetune.micro_batch": 4}),
]
NOTE = (
    "Bytes of a step on one CPU device, as compiled and as planned; the planner's constants were chosen on nano's "
    "steps. Seconds of a step: planned by measured steps, by assumption, and the median of a real run beside a builder."
)


def main(parts: tuple[Literal["memory", "seconds"], ...] = ("memory", "seconds"), squad: str = "") -> None:
    """Compares, and writes both tables.

    Args:
        parts: Which of the two.
        squad: File of SQuAD's paragraphs; without it, squad is left out of the seconds.
    """
    file = RESULTS / "plan.json"
    values = json.loads(file.read_text())["values"] if file.exists() else {}
    if "memory" in parts:
        values["memory"] = [memory_row(f"experiments/{name}.py", *case) for name, *case in CASES]
    if "seconds" in parts:
        names = {"mini": "asset:mini", "nano": "asset:wiki-leads"} | ({"squad": squad} if squad else {})
        values["seconds"] = [row for name, corpus in names.items() for row in seconds_rows(name, corpus)]
    print(write_result("plan", values, NOTE))


def memory_row(experiment: str, phase: str, changes: dict) -> dict:
    """One step as the compiler counts it for one device, and as the planner does."""
    os.environ["XLA_FLAGS"] = CPU_FLAGS  # read when the first backend starts
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", 1)
    config = changed(load_experiment(experiment), changes)
    said = compiled_step(objective(config, phase, 1), longest_batch.of_phase(config, phase, 1), jax.devices("cpu"))
    wider = planned.CPU_BFLOAT16 if config.model.dtype == "bfloat16" else 0.0
    ours = sum(device_memory.of_phase(config, phase, 1, compute_bytes=wider).step.values())
    row = {
        "experiment": config.name,
        "phase": phase,
        "changes": changes,
        "compiled_bytes": said.reserved_bytes,
        "planned_bytes": ours,
        "ratio": round(ours / said.reserved_bytes, 3),
    }
    print(json.dumps(row), flush=True)
    return row


def seconds_rows(name: str, corpus: str) -> list[dict]:
    """Seconds of ICT's and pre-training's steps: planned twice, and real."""
    with tempfile.TemporaryDirectory() as folder:
        workdir = pathlib.Path(folder) / name
        experiment = f"experiments/{name}.py"
        _realm("run", f"--config={experiment}", f"--workdir={workdir}", f"--corpus={corpus}", *_short(experiment))
        plan = ("plan", f"--config={experiment}", f"--corpus={workdir}/corpus", "--json")
        measured, assumed = (json.loads(_realm(*plan, *more)) for more in (["--measure"], []))
        rows = []
        for phase in ("ict", "pretrain"):
            lines = (workdir / phase / "metrics.jsonl").read_text().splitlines()
            real = statistics.median(json.loads(line)["step_seconds"] for line in lines[1:])
            row = {"experiment": name, "phase": phase, "real": round(real, 4)}
            for kind, said in {"measured": measured, "assumed": assumed}.items():
                seconds = next(p["step_seconds"] for p in said["phases"] if p["phase"] == phase)
                row |= {kind: round(seconds, 4), f"{kind}_ratio": round(seconds / real, 3)}
            print(json.dumps(row), flush=True)
            rows.append(row)
        return rows


def _short(experiment: str) -> list[str]:
    """Flags of a run of `STEPS` steps of both phases, with one refresh, and next to no evaluation."""
    every = load_experiment(experiment).pretrain.retriever_update_every
    refresh = STEPS // 2 // every * every
    return [
        f"--ict.steps={STEPS}",
        f"--pretrain.steps={STEPS}",
        f"--pretrain.index_refresh_every={refresh}",
        "--pretrain.retriever_warmup_steps=0",
        "--ict.log_every=5",
        "--pretrain.log_every=5",
        "--pretrain.eval_examples=32",
        "--pretrain.recall_examples=32",
    ]


def _realm(*words: str) -> str:
    done = subprocess.run([sys.executable, "-m", "realm_jax", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"realm {' '.join(words)}: {done.stderr[-2000:]}")
    return done.stdout


if __name__ == "__main__":
    tyro.cli(main)
