"""Does `realm plan` say what happens? Its memory beside the compiler's, its seconds beside those of real runs.

    python benchmarks/plan.py --parts memory               (compiles; another process may use the machine)
    python benchmarks/plan.py --parts seconds              (a quiet machine; short real runs)

Memory: the steps of experiments as they are, and with micro-batches, checkpointing and scanned layers, compiled by XLA
for one CPU device with the schedule that saves memory. Seconds: ICT and pre-training of mini, nano and squad run for
some steps on an index that stays, and the median of what metrics.jsonl says of a step is taken; in turns with these
runs, they are planned as `realm plan --measure` does, and once by assumption. SQuAD's paragraphs come with --squad=FILE
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

from realm_jax import huge_pages
from realm_jax.experiments_file import load_experiment
from realm_jax.plan import device_memory, longest_batch
from realm_jax.plan.advice import changed
from realm_jax.plan.compiled import compiled_step
from realm_jax.training.fit import objective

GIB = 2**30
TURNS = 2  # of a short run and a plan
SHORT = ["--ict.steps=60", "--ict.log_every=5", "--pretrain.steps=60"]
SHORT += ["--index.device=inline", "--pretrain.index_refresh_every=0", "--pretrain.retriever_warmup_steps=0"]
SHORT += ["--pretrain.log_every=5", "--pretrain.eval_examples=32", "--pretrain.recall_examples=32"]
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
    "steps. Seconds of a step: medians of real runs without a builder; planned by measured steps, in turns with them, "
    "and by assumption; ratios of the means."
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
    ours = sum(device_memory.of_phase(config, phase, 1, platform="cpu").step.values())
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
    """Seconds of ICT's and pre-training's steps: real and planned, in turns."""
    with tempfile.TemporaryDirectory() as folder:
        experiment, real, measured = f"experiments/{name}.py", [], []
        for turn in range(TURNS):
            workdir = pathlib.Path(folder) / f"{name}-{turn}"
            _realm("ict", f"--config={experiment}", f"--workdir={workdir}", f"--corpus={corpus}", *SHORT)
            _realm("pretrain", f"--workdir={workdir}")
            real.append({phase: real_seconds(workdir / phase) for phase in ("ict", "pretrain")})
            measured.append(planned_seconds(experiment, workdir, "--measure"))
        assumed = planned_seconds(experiment, workdir)
        rows = []
        for phase in ("ict", "pretrain"):
            done, said = ([turn[phase] for turn in turns] for turns in (real, measured))
            ratios = {"measured": statistics.mean(said) / statistics.mean(done)}
            ratios["assumed"] = assumed[phase] / statistics.mean(done)
            row = {"experiment": name, "phase": phase, "real": done, "measured": said, "assumed": assumed[phase]}
            rows.append(row | {f"{kind}_ratio": round(ratio, 3) for kind, ratio in ratios.items()})
            print(json.dumps(rows[-1]), flush=True)
        return rows


def real_seconds(phase: pathlib.Path) -> float:
    """The median of what a run logged of its steps, without the first ones, which compile."""
    lines = [json.loads(line) for line in (phase / "metrics.jsonl").read_text().splitlines()]
    return round(statistics.median(line["step_seconds"] for line in lines[1:]), 4)


def planned_seconds(experiment: str, workdir: pathlib.Path, *more: str) -> dict[str, float]:
    """What `realm plan` says of a step of each phase."""
    said = json.loads(_realm("plan", f"--config={experiment}", f"--corpus={workdir}/corpus", "--json", *more))
    return {phase["phase"]: round(phase["step_seconds"], 4) for phase in said["phases"]}


def _realm(*words: str) -> str:
    done = subprocess.run([sys.executable, "-m", "realm_jax", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"realm {' '.join(words)}: {done.stderr[-2000:]}")
    return done.stdout


if __name__ == "__main__":
    huge_pages.ensure()
    tyro.cli(main)
