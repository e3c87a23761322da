"""Memory of one device in an experiment's training steps, from the compiler: nothing is run, and no TPU is needed.

    python benchmarks/compiled_memory.py [--config=experiments/base_wikipedia.py] --hardware=gpu-x8
    pip install 'jax[tpu]==0.10.2' && python benchmarks/compiled_memory.py --hardware=v3-8

The real steps of all phases are lowered from shapes alone, each input at its greatest length, and compiled: by the
compiler of libtpu for the topology of a TPU, or by XLA's for as many fake CPU devices as there are GPUs. The TPU's
compiler says what a TPU would reserve. The CPU's schedules and fuses otherwise than the GPU's, and computes much of
bfloat16 in float32, so its figure is an estimate. Besides that, two more batches lie on the device.
Writes benchmarks/results/compiled_memory.json, a row for each experiment, phase and hardware.
"""

import dataclasses
import functools
import itertools
import json
import os
from dataclasses import dataclass
from typing import Literal

import jax
import tyro
from report import RESULTS, commit, write_result

from realm_jax.config import Config, CorpusConfig
from realm_jax.experiments_file import load_experiment
from realm_jax.plan import longest_batch
from realm_jax.plan.compiled import CompiledStep, compiled_step
from realm_jax.training.fit import objective

GIB = 2**30
# Save memory, as a TPU's compiler does: the CPU's own order runs what it can early, and so keeps all activations of all
# layers, with gradient checkpointing or without. Machine code is not looked at, hence its fast levels.
CPU_FLAGS = (
    "--xla_cpu_enable_concurrency_optimized_scheduler=false --xla_backend_optimization_level=0 "
    "--xla_llvm_disable_expensive_passes=true"
)
NOTE = (
    "GiB that the step reserves on one device: arguments (parameters, optimizer, batch), temporaries, and outputs that "
    "do not take an argument's place. TPUs: compiled by libtpu for that slice; gpu-x8: by XLA for 8 fake CPU devices, "
    "an estimate. Each row has the commit that it was compiled at."
)


@dataclass(frozen=True)
class Target:
    """What a step is compiled for."""

    devices: int
    memory_gib: int
    """Of a device."""
    topology: str = ""
    """As libtpu names it; XLA's CPU compiler where there is none."""
    chip: str | None = None
    """`megacore` where the two cores of a chip are one device."""


TARGETS = {
    "v3-8": Target(8, 16, "v3:2x2"),
    "v4-8": Target(4, 32, "v4:2x2x1", "megacore"),
    "v5e-8": Target(8, 16, "v5e:2x4"),
    "gpu-x8": Target(8, 80),
}


EXPERIMENTS = tuple(f"experiments/{name}.py" for name in ("base_wikipedia", "base_ccnews", "tpu_v3_8"))
PHASES = ("ict", "pretrain", "finetune")


def main(
    hardware: Literal[tuple(TARGETS)], configs: tuple[str, ...] = EXPERIMENTS, phases: tuple[str, ...] = PHASES
) -> None:
    """Compiles the steps and writes their memory down.

    Args:
        hardware: What to compile for.
        configs: Experiment files; one step that is common to several is compiled once.
        phases: Which steps.
    """
    target = TARGETS[hardware]
    devices = devices_of(target)

    @functools.cache
    def step(config: Config, phase: str) -> CompiledStep:
        batch = longest_batch.of_phase(config, phase, target.devices)
        return compiled_step(objective(config, phase, target.devices), batch, devices)

    for config, phase in itertools.product(configs, phases):
        settings = load_experiment(config)
        said = step(without_names(settings), phase)
        keep({"config": config, "phase": phase, "hardware": hardware, **_row(settings, phase, target, said)})


def without_names(config: Config) -> Config:
    """The config with all that its steps depend on, but not what it is called and where its texts are."""
    corpus = CorpusConfig(knowledge="any", block_len_tokens=config.corpus.block_len_tokens)
    return dataclasses.replace(config, name="any", init="any", corpus=corpus)


def devices_of(target: Target) -> list[jax.Device]:
    """The devices that the step is compiled for."""
    if not target.topology:
        return jax.devices("cpu")
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # there is no TPU to ask about
    from jax.experimental import topologies

    chip = {"chip_config_name": target.chip} if target.chip else {}
    found = topologies.get_topology_desc(platform="tpu", topology_name=target.topology, **chip).devices
    assert len(found) == target.devices, f"{target.topology} has {len(found)} devices"
    return found


def _row(config: Config, phase: str, target: Target, said: CompiledStep) -> dict:
    section = getattr(config, phase)
    return {
        "batch_size": section.batch_size,
        "micro_batch": section.micro_batch,
        "gradient_checkpointing": config.model.gradient_checkpointing,
        "reserved_gib": round(said.reserved_bytes / GIB, 2),
        "arguments_gib": round(said.arguments_bytes / GIB, 2),
        "temporaries_gib": round(said.temporaries_bytes / GIB, 2),
        "memory_gib": target.memory_gib,
        "fits": said.available_bytes is None and said.reserved_bytes <= target.memory_gib * GIB,
        "compile_seconds": round(said.compile_seconds),
        "commit": commit(),
    }


def keep(row: dict) -> None:
    """Puts a row into the file, in place of that of the same step."""
    print("  ".join(f"{key} {value}" for key, value in row.items()), flush=True)
    file, same = RESULTS / "compiled_memory.json", ("config", "phase", "hardware")
    rows = json.loads(file.read_text())["values"]["rows"] if file.exists() else []
    rows = [old for old in rows if any(old[key] != row[key] for key in same)] + [row]
    write_result("compiled_memory", {"rows": rows}, NOTE)


if __name__ == "__main__":
    os.environ["XLA_FLAGS"] = CPU_FLAGS  # read when the first backend starts
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", TARGETS["gpu-x8"].devices)
    tyro.cli(main)
