"""Memory of one device in an experiment's training steps, from the compiler: nothing is run, and no TPU is needed.

    python benchmarks/compiled_memory.py [--config=experiments/tpu_v3_8.py] [--compiler=cpu]
    pip install 'jax[tpu]==0.10.2' && python benchmarks/compiled_memory.py --compiler=v3:2x2

The real pre-training and ICT steps are lowered for 8 devices from shapes alone, each input at its greatest length, and
compiled: for fake CPU devices, or by the compiler of libtpu for a TPU topology (v3:2x2 is a v3-8). XLA's CPU compiler
schedules and fuses otherwise than the TPU's, and computes much of bfloat16 in float32, so its figure is an estimate;
the TPU compiler's is what a TPU would reserve. Besides that, up to two more batches lie on the device while it works.
Writes benchmarks/results/compiled_memory.json, a row for each compiler and step.
"""

import functools
import json
import os
import time
from unittest import mock

import jax
import jax.numpy as jnp
import tyro
from report import RESULTS, write_result

from realm_jax import parallel
from realm_jax.batches import IctBatch, PretrainBatch, Tokens
from realm_jax.config import Config
from realm_jax.experiments_file import load_experiment
from realm_jax.models import embedder, knowledge_encoder
from realm_jax.training.ict_task import IctTask
from realm_jax.training.pretrain_task import PretrainTask

DEVICES = 8
GIB = 2**30
# Save memory, as a TPU's compiler does: the CPU's own order runs what it can early, and so keeps all activations of all
# layers, with gradient checkpointing or without. Machine code is not looked at, hence its fast levels.
CPU_FLAGS = (
    "--xla_cpu_enable_concurrency_optimized_scheduler=false --xla_backend_optimization_level=0 "
    "--xla_llvm_disable_expensive_passes=true"
)
NOTE = (
    "GiB that the step reserves on one device: arguments (parameters, optimizer, batch), temporaries, and outputs that "
    "do not take an argument's place. cpu: 8 fake devices, an estimate; v3:2x2: compiled by libtpu for a v3-8. tflop: "
    "of one step over all devices as the compiler counts, what is computed again included."
)


def main(config: str = "experiments/tpu_v3_8.py", compiler: str = "cpu") -> None:
    """Compiles both steps and writes their memory down.

    Args:
        config: Experiment file.
        compiler: cpu, or a topology of libtpu: v3:2x2, v4:2x2x1, v5e:2x4, v6e:2x4.
    """
    if compiler == "cpu":
        os.environ["XLA_FLAGS"] = CPU_FLAGS  # read when the first backend starts
    settings = load_experiment(config)
    file = RESULTS / "compiled_memory.json"
    for phase in ("pretrain", "ict"):
        row = {"config": config, "compiler": compiler, **memory(settings, phase, compiler)}
        same = ("config", "compiler", "phase")
        rows = json.loads(file.read_text())["values"]["rows"] if file.exists() else []
        rows = [old for old in rows if any(old[key] != row[key] for key in same)] + [row]
        print(write_result("compiled_memory", {"devices": DEVICES, "rows": rows}, NOTE))


def memory(config: Config, phase: str, compiler: str) -> dict:
    """One row: what the compiler says of a phase's step."""
    devices = compile_for(compiler)
    if phase == "ict":
        task, batch = IctTask.__new__(IctTask), ict_batch(config)
        task.steps, size = config.ict.steps, config.ict.batch_size
    else:
        task, batch = PretrainTask.__new__(PretrainTask), pretrain_batch(config)
        size = config.pretrain.batch_size
    task._config = config  # the task's own optimizer and loss; its data are not needed
    optimizer = task.optimizer()
    state = jax.eval_shape(functools.partial(first_state, config, phase, optimizer))
    on_all = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((DEVICES, *leaf.shape), leaf.dtype), state)
    started = time.monotonic()
    with mock.patch.object(parallel, "on_all_devices", functools.partial(parallel.on_all_devices, devices=devices)):
        step = parallel.compiled_train_step(task.loss, optimizer, seed=0)
    compiled = step.lower(on_all, batch).compile()
    said = compiled.memory_analysis()
    reserved = said.argument_size_in_bytes + said.temp_size_in_bytes
    reserved += said.output_size_in_bytes - said.alias_size_in_bytes
    row = {
        "phase": phase,
        "batch_size": size,
        "reserved_gib": round(reserved / GIB, 2),
        "arguments_gib": round(said.argument_size_in_bytes / GIB, 2),
        "temporaries_gib": round(said.temp_size_in_bytes / GIB, 2),
        "tflop": round(DEVICES * compiled.cost_analysis()["flops"] / 1e12, 1),
        "compile_seconds": round(time.monotonic() - started),
    }
    print("  ".join(f"{key} {value}" for key, value in {"compiler": compiler, **row}.items()), flush=True)
    return row


def compile_for(compiler: str) -> list:
    """The devices that the step is compiled for."""
    if compiler == "cpu":
        return jax.devices("cpu")
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # there is no TPU to ask about
    from jax.experimental import topologies

    devices = topologies.get_topology_desc(platform="tpu", topology_name=compiler).devices
    assert len(devices) == DEVICES, f"{compiler} has {len(devices)} devices: use one with {DEVICES}"
    return devices


def first_state(config: Config, phase: str, optimizer) -> parallel.TrainState:
    """What a phase starts from."""
    key = jax.random.key(0)
    params = {"embedder": embedder.init(config.model, key)}
    if phase == "pretrain":
        params["encoder"] = knowledge_encoder.init(config.model, key)
    return parallel.TrainState(jnp.int32(0), params, optimizer.init(params))


def ict_batch(config: Config) -> IctBatch:
    """Shapes of the longest batch."""
    share = config.ict.batch_size // DEVICES
    query = _tokens(share, config.ict.query_len_tokens)
    return IctBatch(query, _tokens(share, config.corpus.block_len_tokens), _shape(share, dtype=jnp.float32))


def pretrain_batch(config: Config) -> PretrainBatch:
    """Shapes of the longest batch with every prediction used."""
    pretrain, share = config.pretrain, config.pretrain.batch_size // DEVICES
    blocks, length = pretrain.num_candidates - 1, pretrain.query_len_tokens
    return PretrainBatch(
        query=_tokens(share, length),
        blocks=_tokens(share, blocks, config.corpus.block_len_tokens),
        joint=_tokens(share, blocks, config.joint_len_tokens),
        null_joint=_tokens(share, length + 1),
        candidate_mask=_shape(share, pretrain.num_candidates, dtype=bool),
        mask_positions=_shape(share, pretrain.max_masks),
        mask_targets=_shape(share, pretrain.max_masks),
        mask_weights=_shape(share, pretrain.max_masks, dtype=jnp.float32),
        mask_slots=_shape(share * pretrain.max_masks),
    )


def _tokens(*shape: int) -> Tokens:
    return Tokens(_shape(*shape), _shape(*shape, dtype=bool), _shape(*shape))


def _shape(*shape: int, dtype=jnp.int32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((DEVICES, *shape), dtype)


if __name__ == "__main__":
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_num_cpu_devices", DEVICES)
    tyro.cli(main)
