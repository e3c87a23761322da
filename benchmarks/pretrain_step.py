"""Our pre-training step beside Hugging Face's REALM, and both beside what their counted FLOPs predict.

    make oracle
    python benchmarks/pretrain_step.py [--oracle-python=.venv-oracle/bin/python]

A step embeds queries and candidates, reads them jointly, and makes loss, gradients and update: batch 4 (2 of
BERT-base), 8 candidates, lengths 96/288/384, float32 on all CPU cores, dropout 0. The two take turns, so that noise
hits both alike. FLOPs are those of the matmuls, a multiply-add as 2 and the backward pass as twice the forward one.
Writes benchmarks/results/pretrain_step.json after each row. Takes about 15 minutes on two cores, most of it theirs.
"""

import json
import statistics
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from flops import bert_macs, head_macs, padded_flops, real_flops
from random_batches import BLOCK_LEN, CANDIDATES, QUERY_LEN, VOCAB, random_batch
from report import write_result
from rival import Rival, threads

from realm_jax import huge_pages, parallel
from realm_jax.batches import PretrainBatch
from realm_jax.config import Config, ConfigError, ModelConfig
from realm_jax.models import embedder, knowledge_encoder
from realm_jax.training.optimizer import joint, retriever_optimizer
from realm_jax.training.pretrain_task import realm_loss
from realm_jax.training.room import Room

SIZES = {
    "2x128": ModelConfig(num_layers=2, hidden_size=128, num_heads=2, intermediate_size=512, dropout=0.0),
    "6x384": ModelConfig(num_layers=6, hidden_size=384, num_heads=12, intermediate_size=1536, dropout=0.0),
    "12x768": ModelConfig(dropout=0.0),
}
BATCHES = {"2x128": 4, "6x384": 4, "12x768": 2}
TURNS = {"2x128": 7, "6x384": 3, "12x768": 3}
STEPS_A_TURN = {"2x128": 3, "6x384": 3, "12x768": 3}
THEIR_STEPS_A_TURN = {"2x128": 3, "6x384": 1, "12x768": 1}
MATMUL_SIZE = 1024
NOTE = (
    "Medians over turns. Dropout is 0 on both sides. padded: all positions and all 10 predictions of a query are "
    "real. real: lengths and predictions as in Wikipedia leads, three batches in turn. Theirs reads the null block as "
    "one more candidate, padded to 288 and 384 like the others (batch_encode_candidates always pads), runs the MLM "
    "head at all 384 positions, and updates with torch's fused AdamW without clipping; ours clips. predicted_*: ratio "
    "of counted FLOPs, from the head at masked positions alone, and of everything, the padding of our rows too. "
    "real_gflop: ours without any padding. share_of_matmul_rate: the time of these at the float32 matmul rate measured "
    "beside them, over our time; theirs counts their padding."
)


class Ours:
    """The product's step, as the trainer runs it, on a fixed cycle of host batches."""

    def __init__(self, model: ModelConfig, batches: list[PretrainBatch]):
        config = Config(model=model)
        room = Room(config, 1, {}, {})
        keys = jax.random.split(jax.random.key(0), 2)
        params = {"embedder": embedder.init(model, keys[0]), "encoder": knowledge_encoder.init(model, keys[1])}
        retriever = retriever_optimizer(3e-5, 100_000, update_every=1, off_steps=0, train=True)
        optimizer = joint(3e-5, retriever, 100_000)
        state = parallel.TrainState(jnp.int32(0), params, optimizer.init(params))
        self._state = parallel.replicate(state)
        self._step = parallel.compiled_train_step(lambda *args: realm_loss(config, *args), optimizer, seed=0)
        self.batches, self._taken = [room.pack(batch) for batch in batches], 0
        for _ in batches:  # compiles every shape
            self.loss = self._take()

    def steps(self, count: int) -> list[float]:
        """Seconds of each of the next steps."""
        seconds = []
        for _ in range(count):
            start = time.perf_counter()
            self._take()
            seconds.append(time.perf_counter() - start)
        return seconds

    def _take(self) -> float:
        batch = self.batches[self._taken % len(self.batches)]
        self._taken += 1
        self._state, metrics = self._step(self._state, parallel.shard(batch))
        jax.block_until_ready(self._state)
        return parallel.means(metrics)["loss"]


class Theirs(Rival):
    """`oracle_step.py` with a model of the same shape and the same batches."""

    def __init__(self, python: Path, model: ModelConfig, batches: list[dict[str, np.ndarray]]):
        config = {
            "vocab_size": VOCAB,
            "hidden_size": model.hidden_size,
            "num_hidden_layers": model.num_layers,
            "num_attention_heads": model.num_heads,
            "intermediate_size": model.intermediate_size,
            "hidden_act": "gelu_new",
            "hidden_dropout_prob": model.dropout,
            "attention_probs_dropout_prob": model.dropout,
            "retriever_proj_size": model.projection_dim,
            "num_candidates": CANDIDATES,
            "pad_token_id": 0,
        }
        arrays = {f"{i}/{name}": array for i, batch in enumerate(batches) for name, array in batch.items()}
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "batches.npz")
            np.savez(file, **arrays)
            super().__init__(python, "oracle_step", file, json.dumps(config), threads())
            self.loss = float(self.answer().split()[1])  # only now has it read the file

    def steps(self, count: int) -> list[float]:
        """Seconds of each of the next steps."""
        return [float(seconds) for seconds in self.ask(f"step {count}").split()]


def their_flops(model: ModelConfig, batch: int, head_positions: int) -> int:
    """FLOPs of Hugging Face's step if its MLM head ran at that many positions."""
    sequences = batch * CANDIDATES
    macs = bert_macs(model, batch, QUERY_LEN) + bert_macs(model, sequences, BLOCK_LEN)
    macs += bert_macs(model, sequences, QUERY_LEN + BLOCK_LEN) + head_macs(model, head_positions)
    return 6 * macs


def matmul_rate() -> float:
    """FLOP/s of a float32 matmul on all cores, median of 15."""
    multiply = jax.jit(jnp.matmul)
    x = jnp.asarray(np.random.default_rng(0).standard_normal((MATMUL_SIZE, MATMUL_SIZE), np.float32))
    jax.block_until_ready(multiply(x, x))
    seconds = []
    for _ in range(15):
        start = time.perf_counter()
        jax.block_until_ready(multiply(x, x))
        seconds.append(time.perf_counter() - start)
    return 2 * MATMUL_SIZE**3 / statistics.median(seconds)


def measure(size: str, *, padded: bool, python: Path, turns: int) -> dict:
    """One row of the table: medians over turns of both sides and of the matmul rate between them."""
    model, batch = SIZES[size], BATCHES[size]
    mine, other = zip(*(random_batch(seed, batch, padded=padded) for seed in range(1 if padded else 3)), strict=True)
    ours = Ours(model, list(mine))
    our_seconds, their_seconds, rates = [], [], []
    with Theirs(python, model, list(other)) as theirs:
        for _ in range(turns):
            rates.append(matmul_rate())
            our_seconds += ours.steps(STEPS_A_TURN[size])
            their_seconds += theirs.steps(THEIR_STEPS_A_TURN[size])
    counted = statistics.mean(padded_flops(model, packed) for packed in ours.batches)
    real = statistics.mean(real_flops(model, own) for own in mine)
    slots = statistics.mean(len(packed.mask_slots) for packed in ours.batches)
    all_positions = their_flops(model, batch, batch * CANDIDATES * (QUERY_LEN + BLOCK_LEN))
    our_median, their_median = statistics.median(our_seconds), statistics.median(their_seconds)
    rate = statistics.median(rates)
    row = {
        "size": size,
        "row": "padded" if padded else "real",
        "batch": batch,
        "our_examples_per_s": batch / our_median,
        "their_examples_per_s": batch / their_median,
        "ratio": their_median / our_median,
        "predicted_by_head": all_positions / their_flops(model, batch, int(slots * CANDIDATES)),
        "predicted": all_positions / counted,
        "our_gflop": counted / 1e9,
        "real_gflop": real / 1e9,
        "their_gflop": all_positions / 1e9,
        "matmul_gflop_per_s": rate / 1e9,
        "share_of_matmul_rate": real / rate / our_median,
        "their_share_of_matmul_rate": all_positions / rate / their_median,
        "loss_at_start": [ours.loss, theirs.loss],
        "our_step_s": our_seconds,
        "their_step_s": their_seconds,
    }
    row = {key: _rounded(value) for key, value in row.items()}
    print("  ".join(f"{key}={value}" for key, value in row.items() if not key.endswith("step_s")), flush=True)
    return row


def _rounded(value):
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value


def main(
    oracle_python: Path = Path(".venv-oracle/bin/python"),
    sizes: tuple[str, ...] = ("2x128", "6x384"),
    turns: int = 0,
) -> None:
    """Measures both sides.

    Args:
        oracle_python: Python of an environment with torch 2.13.0 and transformers 4.57.6.
        sizes: 2x128 (2 layers, 128 wide), 6x384, 12x768 (BERT-base, for which both sides take 25 GB), or several.
        turns: How often the two take turns; 0 takes 7 for the smallest size and 3 for the others.
    """
    if not oracle_python.exists():
        raise ConfigError(f"{oracle_python} does not exist: make it (see this file's docstring), or --oracle-python=")
    shape, rows = {"candidates": CANDIDATES, "query_len": QUERY_LEN, "block_len": BLOCK_LEN}, []
    for size in sizes:
        for padded in (True, False):
            rows.append(measure(size, padded=padded, python=oracle_python, turns=turns or TURNS[size]))
            path = write_result("pretrain_step", {**shape, "threads": threads(), "rows": rows}, NOTE)
    print(path)


if __name__ == "__main__":
    huge_pages.ensure()
    jax.config.update("jax_platforms", "cpu")
    tyro.cli(main)
