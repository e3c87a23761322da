"""One training step of REALM at the paper's lengths and model, on fake CPU devices: what memory it really takes.

    python benchmarks/large_step.py [--devices=2] [--size=base]

Two BERT-base, 96/288 wordpieces, k = 8, every position and prediction real, two queries a device: 16 on 8 devices.
Layers are scanned and checkpointed, micro-batches are of one query. The step is the trainer's, AdamW and all.
Each fake device has a state of its own, and took 6.7 GB at its peak: 2 of them 13 GB, so 8 would take 54; what one
takes does not depend on their number.
Writes benchmarks/results/large_step.json: what the process took at its peak, for each device, and what the compiler
says of the same program. `--size=tiny` is for a trial and writes nothing.
"""

import ctypes
import os
import time
from pathlib import Path
from typing import Literal

import jax
import jax.numpy as jnp
import tyro
from random_batches import BLOCK_LEN, CANDIDATES, QUERY_LEN, full_batch
from report import write_result

from realm_jax import huge_pages, parallel
from realm_jax.config import Config, CorpusConfig, ModelConfig, PretrainConfig
from realm_jax.models import embedder, knowledge_encoder
from realm_jax.plan import device_memory
from realm_jax.training.pretrain_task import PretrainTask
from realm_jax.training.room import Room

GIB = 2**30
QUERIES_A_DEVICE, MICRO_BATCH = 2, 1
SAVING = {"scan_layers": True, "gradient_checkpointing": True}
SIZES = {
    "base": ModelConfig(**SAVING),
    "tiny": ModelConfig(num_layers=2, hidden_size=128, num_heads=2, intermediate_size=512, **SAVING),
}
NOTE = (
    "GiB a device. state: what the process grew by when parameters and optimizer were put on the devices. peak: what "
    "it had grown by at its greatest during the step, compilation apart. compiled: arguments, temporaries, and outputs "
    "that take no argument's place, as XLA's CPU compiler says of the same program; planned: the same by realm plan."
)


def main(devices: int = 2, size: Literal["base", "tiny"] = "base") -> None:
    """Takes one step and writes down its memory.

    Args:
        devices: How many fake devices, of two queries each.
        size: The paper's BERT-base, or a small model for a trial.
    """
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", devices)
    config = Config(
        model=SIZES[size],
        corpus=CorpusConfig(block_len_tokens=BLOCK_LEN),
        pretrain=PretrainConfig(
            batch_size=QUERIES_A_DEVICE * devices,
            micro_batch=MICRO_BATCH,
            num_candidates=CANDIDATES,
            query_len_tokens=QUERY_LEN,
        ),
    )
    values = {"devices": devices, "batch_size": config.pretrain.batch_size, "size": size, **measured(config)}
    print("  ".join(f"{key} {value}" for key, value in values.items()), flush=True)
    if size == "base":
        print(write_result("large_step", values, NOTE))


def measured(config: Config) -> dict:
    """Memory and seconds of the first step."""
    task = PretrainTask.__new__(PretrainTask)  # its own loss and optimizer; its data are not needed
    task._config, task.steps = config, config.pretrain.steps
    optimizer, shares = task.optimizer(), parallel.num_devices() * task.micro_batches
    batch = parallel.shard(Room(config, shares, {}, {}).pack(full_batch(0, config.pretrain.batch_size, shares)))
    params = _first_params(config)
    empty = _resident("VmRSS") - sum(leaf.nbytes for leaf in jax.tree.leaves(params))
    state = parallel.TrainState(jnp.int32(0), params, optimizer.init(params))
    state = jax.block_until_ready(parallel.replicate(state))
    del params
    state_bytes = _resident("VmRSS") - empty
    started = time.monotonic()
    compiled = parallel.compiled_train_step(task.loss, optimizer, 0, task.micro_batches).lower(state, batch).compile()
    compile_seconds, grown = time.monotonic() - started, _resident("VmRSS") - empty - state_bytes
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    started = time.monotonic()
    _, metrics = jax.block_until_ready(compiled(state, batch))
    planned = device_memory.of_phase(config, "pretrain", parallel.num_devices(), platform="cpu")
    step_seconds, peak = time.monotonic() - started, _resident("VmHWM") - empty - grown
    return {
        "state_gib": _a_device(state_bytes),
        "peak_gib": _a_device(peak),
        **_compiler_says(compiled),
        "planned_gib": round(sum(planned.step.values()) / GIB, 2),
        "loss": round(parallel.means(metrics)["loss"], 3),
        "compile_seconds": round(compile_seconds),
        "step_seconds": round(step_seconds, 1),
    }


def _first_params(config: Config) -> dict:
    key = jax.random.key(0)
    return {"embedder": embedder.init(config.model, key), "encoder": knowledge_encoder.init(config.model, key)}


def _compiler_says(compiled) -> dict:
    said = compiled.memory_analysis()
    outputs = said.output_size_in_bytes - said.alias_size_in_bytes
    return {
        "compiled_gib": round((said.argument_size_in_bytes + said.temp_size_in_bytes + outputs) / GIB, 2),
        "arguments_gib": round(said.argument_size_in_bytes / GIB, 2),
        "temporaries_gib": round(said.temp_size_in_bytes / GIB, 2),
    }


def _resident(field: str) -> int:
    """Bytes of this process in memory: now (VmRSS), or at the most (VmHWM)."""
    ctypes.CDLL(None).malloc_trim(0)  # what was freed goes back to the system
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")


def _a_device(size: int) -> float:
    return round(size / parallel.num_devices() / GIB, 2)


if __name__ == "__main__":
    huge_pages.ensure()
    # Save memory, as a TPU's compiler does: the CPU's own order keeps all activations, checkpointed or not.
    os.environ["XLA_FLAGS"] = "--xla_cpu_enable_concurrency_optimized_scheduler=false"  # read with the first backend
    tyro.cli(main)
