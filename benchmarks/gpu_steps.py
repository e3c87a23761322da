"""Parts of `gpu.py` that run the product's models: training steps, embedding, gradients. All weights are random."""

import dataclasses
import functools
import time
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flops import bert_macs, padded_flops, real_flops
from random_batches import BLOCK_LEN, CANDIDATES, QUERY_LEN, RandomBlocks, real_batch
from timing import median_seconds

from realm_jax import parallel
from realm_jax.batches import PretrainBatch
from realm_jax.config import Config, CorpusConfig, IndexConfig, ModelConfig, PretrainConfig
from realm_jax.index import embed_blocks
from realm_jax.models import embedder, knowledge_encoder
from realm_jax.models.bert import INITIAL_STDDEV
from realm_jax.training.pretrain_task import PretrainTask, realm_loss
from realm_jax.training.room import Room

BASE = ModelConfig(dtype="bfloat16", gelu="erf")  # as in experiments/base_wikipedia.py
MINILM = dataclasses.replace(BASE, num_layers=6, hidden_size=384, intermediate_size=1536)
MODELS = {"base": BASE, "minilm": MINILM}
DRY = {"num_layers": 1, "hidden_size": 16, "num_heads": 2, "intermediate_size": 32}
SHARE_OF_MEMORY = 0.95  # the rest is for the next batches and what the allocator cannot use
SMALL_GAIN = 0.1  # near what released embedders have: retrieval scores of about 1, where a softmax has a gradient
TRAINED_STDDEV = 0.05  # about that of a trained BERT's matrices: blocks must differ in what they predict
EMBED_BATCH_TOKENS = (16_384, 131_072)  # the default, and that of experiments/base_wikipedia.py


def config_of(name: str, *, dry: bool, **model: Any) -> Config:
    """The model `name` at 96/288 wordpieces and 8 candidates; one layer, 16 wide, for a dry run."""
    shape = dataclasses.replace(MODELS[name], **(DRY if dry else {}), **model)
    pretrain = PretrainConfig(query_len_tokens=QUERY_LEN, num_candidates=CANDIDATES)
    return Config(model=shape, corpus=CorpusConfig(block_len_tokens=BLOCK_LEN), pretrain=pretrain)


def param_shapes(config: Config, parts: tuple[str, ...] = ("embedder", "encoder")) -> dict:
    """Shapes of the parameters of both models."""
    makers = {"embedder": embedder.init, "encoder": knowledge_encoder.init}
    return {part: jax.eval_shape(functools.partial(makers[part], config.model), jax.random.key(0)) for part in parts}


def drawn(shapes: Any, gain: float = 1.0, stddev: float = INITIAL_STDDEV) -> Any:
    """Parameters of these shapes on the host, drawn there: an accelerator would first compile a draw for every shape.

    Args:
        gain: of the embedder's last LayerNorm.
    """
    rng = np.random.default_rng(0)

    def draw(path, leaf):
        names = [key.key for key in path]
        if names[-1] == "scale":
            return np.full(leaf.shape, gain if "projection_norm" in names else 1.0, leaf.dtype)
        if names[-1] == "bias":
            return np.zeros(leaf.shape, leaf.dtype)
        return np.float32(stddev) * rng.standard_normal(leaf.shape, leaf.dtype)

    return jax.tree_util.tree_map_with_path(draw, shapes)


class Step:
    """The product's pre-training step, compiled for one packed batch."""

    def __init__(self, config: Config, size: int):
        self.config, self.size = config, size
        task = PretrainTask.__new__(PretrainTask)  # its own optimizer and loss; its data are not needed
        task._config = config
        self.real = real_batch(0, size)
        self.batch = Room(config, 1, {}, {}).pack(self.real)
        optimizer = task.optimizer()
        self._shapes = jax.eval_shape(
            lambda params: parallel.TrainState(jnp.int32(0), params, optimizer.init(params)), param_shapes(config)
        )
        on_device = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((1, *leaf.shape), leaf.dtype), self._shapes)
        start = time.perf_counter()
        step = parallel.compiled_train_step(task.loss, optimizer, seed=0)
        self._run = step.lower(on_device, parallel.shard(self.batch)).compile()
        self.compile_s = time.perf_counter() - start

    def memory(self) -> tuple[int, int]:
        """Bytes that the step reserves in all, and those of them that do not grow with the batch, about."""
        said = self._run.memory_analysis()
        arguments = said.argument_size_in_bytes
        return arguments + said.temp_size_in_bytes + said.output_size_in_bytes - said.alias_size_in_bytes, arguments

    def measure(self) -> dict:
        """Runs it from random weights."""
        params = drawn(self._shapes.params, self.config.model.projection_gain)
        opt_state = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), self._shapes.opt_state)
        state = parallel.replicate(parallel.TrainState(np.int32(0), params, opt_state))
        last: dict = {}

        def step() -> jax.Array:
            nonlocal state
            state, metrics = self._run(state, parallel.shard(self.batch))
            last.update(metrics)
            return metrics["loss"][0]

        seconds = median_seconds(step, least_s=0.7)
        return {"seconds": seconds, "loss": parallel.means(last)["loss"], **self._rates(seconds)}

    def _rates(self, seconds: float) -> dict:
        model, batch = self.config.model, self.batch
        real = sum(int(tokens.mask.sum()) for tokens in _sequences(self.real))
        return {
            "examples_per_s": self.size / seconds,
            "real_tokens_per_s": real / seconds,
            "real_share_of_tokens": real / sum(tokens.ids.size for tokens in _sequences(batch)),
            "padded_tflop_per_s": padded_flops(model, batch) / seconds / 1e12,
            "real_tflop_per_s": real_flops(model, self.real) / seconds / 1e12,
        }


def _sequences(batch: PretrainBatch) -> tuple:
    return batch.query, batch.blocks, batch.joint, batch.null_joint


def step(name: str, first: int, *, dry: bool, prng: str = "", **model: Any) -> Iterator[dict]:
    """Rates of the training step at a batch of `first`, then at the largest that fits.

    Compiling takes most of the time: so there is a row before the second size is compiled.

    Args:
        first: queries in a batch; the largest is a power of two times it.
        prng: another generator of the dropout.
    """
    if prng:
        jax.config.update("jax_default_prng_impl", prng)
    config = config_of(name, dry=dry, **model)
    row = {
        "model": name,
        "prng": jax.config.jax_default_prng_impl,
        "checkpointing": config.model.gradient_checkpointing,
        "attention_dropout": config.model.attention_dropout,
    }
    size, measured = (2 if dry else first), set()
    while size not in measured:
        measured.add(size)
        chosen = Step(config, size)
        reserved_gib = chosen.memory()[0] / 2**30
        said = {**row, "batch": size, "reserved_gib": reserved_gib, "compile_s": chosen.compile_s}
        largest = largest_size(chosen, most=4 if dry else 1024)
        try:
            if largest >= size:
                yield {**said, **chosen.measure()}
        except jax.errors.JaxRuntimeError as error:  # the compiler's count was too low
            yield {**said, "error": str(error)[:500]}
            largest = size // 2
        size = max(1, largest)


def largest_size(chosen: Step, most: int) -> int:
    """How many queries fit by the compiler's count of a step: its own number, doubled or halved; at most `most`."""
    stats = jax.devices()[0].memory_stats() or {"bytes_limit": 2**33}  # a CPU does not say
    limit = SHARE_OF_MEMORY * stats["bytes_limit"]
    reserved, fixed = chosen.memory()
    size, of_query = chosen.size, (reserved - fixed) / chosen.size
    while 2 * size <= most and fixed + 2 * size * of_query <= limit:
        size *= 2
    while size > 1 and fixed + size * of_query > limit:
        size //= 2
    return size


def embedding(name: str, *, dry: bool) -> Iterator[dict]:
    """Blocks of 288 wordpieces embedded a second, by the builder's own function and by the device alone."""
    config = config_of(name, dry=dry)
    params = jax.device_put(drawn(param_shapes(config, ("embedder",)), config.model.projection_gain)["embedder"])
    rng = np.random.default_rng(0)
    for batch_tokens in EMBED_BATCH_TOKENS[:1] if dry else EMBED_BATCH_TOKENS:
        rows = batch_tokens // BLOCK_LEN
        count = rows * (2 if dry else 7 * max(EMBED_BATCH_TOKENS) // batch_tokens)
        corpus = RandomBlocks(rng.integers(1000, 30_000, (count, BLOCK_LEN)), np.full(count, BLOCK_LEN))
        plan = dataclasses.replace(config, index=IndexConfig(embed_batch_tokens=batch_tokens))
        out = np.empty((count, config.model.projection_dim), np.float32)
        whole = median_seconds(functools.partial(embed_blocks.embed_corpus, plan, params, corpus, out))
        tower = embed_blocks.TowerEmbedder(plan, params, "block")
        tokens = jax.device_put(parallel.shard(corpus.embedder_tokens(np.arange(rows), BLOCK_LEN)))
        alone = median_seconds(tower._run, tower._params, tokens)
        yield {
            "model": name,
            "batch": rows,
            "blocks_per_s": count / whole,
            "device_blocks_per_s": rows / alone,
            "device_tflop_per_s": 2 * bert_macs(config.model, rows, BLOCK_LEN) / alone / 1e12,
        }


def gradients(name: str, *, dry: bool) -> Iterator[dict]:
    """Relative error |g - g32| / |g32| of one bfloat16 step's gradients, without dropout, of all and of each part."""
    size = 2 if dry else 4
    config = config_of(name, dry=dry, dropout=0.0, projection_gain=SMALL_GAIN)
    params, batch = jax.device_put((drawn(param_shapes(config), SMALL_GAIN, TRAINED_STDDEV), real_batch(0, size)))

    def gradient(dtype: str) -> dict:
        typed = dataclasses.replace(config, model=dataclasses.replace(config.model, dtype=dtype))

        def mean(params, batch):
            total, count, _ = realm_loss(typed, params, batch, None)
            return total / count

        return jax.device_get(jax.jit(jax.grad(mean))(params, batch))

    rounded = gradient("bfloat16")
    with jax.default_matmul_precision("highest"):
        exact = gradient("float32")
    squares: dict[str, np.ndarray] = {}
    errors = jax.tree.map(lambda a, b: np.array([_square(a - b), _square(b)]), rounded, exact)
    for path, pair in jax.tree_util.tree_leaves_with_path(errors):
        names = [key.key for key in path]
        place = names[names.index("bert") + 1].split("_")[0] if "bert" in names else names[-2].split("_")[0]
        for group in ("all", names[0], f"{names[0]}: {place}"):
            squares[group] = squares.get(group, 0) + pair
    yield {
        "model": name,
        "batch": size,
        "relative_error": {group: float(np.sqrt(error / norm)) for group, (error, norm) in sorted(squares.items())},
    }


def _square(x: np.ndarray) -> float:
    return float(np.vdot(x, x))
