"""Parts of `gpu.py` about single operations: the device's ceilings, exact search, attention."""

import functools
import subprocess
from collections.abc import Iterator

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from gpu_steps import BASE, DRY, MINILM, drawn
from jax import lax
from random_batches import BLOCK_LEN, CANDIDATES, QUERY_LEN, real_batch
from timing import median_seconds

from realm_jax.batches import Packed, Tokens
from realm_jax.config import ModelConfig
from realm_jax.index import exact
from realm_jax.models.bert import Attention
from realm_jax.models.sequences import alone

JOINT_LEN = QUERY_LEN + BLOCK_LEN
BLOCKS, DIM = 13_353_718, 128  # the paper's corpus (Guu et al. 2020, §4.2)
LARGER_CHUNK = 131_072
ROWS = 128


def ceilings(*, dry: bool) -> Iterator[dict]:
    """What the device is, and what its matrix units and its memory reach: a bfloat16 product, and a negation."""
    device = jax.devices()[0]
    stats = device.memory_stats() or {}
    yield {
        "device": device.device_kind,
        "platform": device.client.platform_version,
        "memory_gib": stats.get("bytes_limit", 0) / 2**30,
        "nvidia_smi": _nvidia_smi(),
    }
    size = 256 if dry else 8192
    x, y = jax.random.normal(jax.random.key(0), (2, size, size), jnp.bfloat16)
    yield {"matmul": size, "tflop_per_s": 2 * size**3 / median_seconds(jax.jit(jnp.matmul), x, y) / 1e12}
    x = jax.random.normal(jax.random.key(0), (2**20 if dry else 2**28,))
    yield {"copied_gib": x.nbytes / 2**30, "tb_per_s": 2 * x.nbytes / median_seconds(jax.jit(jnp.negative), x) / 1e12}


def _nvidia_smi() -> str:
    fields = "name,driver_version,memory.total,power.limit,clocks.max.sm"
    command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "absent"


def search(*, dry: bool) -> Iterator[dict]:
    """The product's exact search beside `lax.top_k` over whole rows of scores, which takes the queries 64 at a time."""
    blocks, k = (20_000 if dry else BLOCKS), CANDIDATES
    index = exact.ExactSearch(np.asarray(jax.random.normal(jax.random.key(0), (blocks, DIM), jnp.bfloat16)))
    queries = np.asarray(jax.random.normal(jax.random.key(1), (512, DIM)))
    row = {"blocks": blocks, "k": k}
    for batch in (64, 512):
        seconds = median_seconds(index.search, queries[:batch], k)
        yield {**row, "search": "product", "chunk": exact.CHUNK_ROWS, "queries": batch, "seconds": seconds}
    larger = functools.partial(exact._top_k(), index._embeddings, index._live)
    chunk = min(LARGER_CHUNK, blocks)
    seconds = median_seconds(lambda: larger(queries, k, chunk))
    yield {**row, "search": "product", "chunk": chunk, "queries": 512, "seconds": seconds}

    @jax.jit
    def whole_rows(bits, some):
        embeddings = lax.bitcast_convert_type(bits[0], jnp.bfloat16).astype(jnp.float32)
        return lax.top_k(jnp.einsum("bd,cd->bc", some, embeddings, precision=lax.Precision.HIGHEST), k)

    _, ids = whole_rows(index._embeddings, queries[:64])
    same = float((np.asarray(ids) == index.search(queries[:64], k)[0]).mean())
    seconds = median_seconds(whole_rows, index._embeddings, queries[:64])
    for batch in (64, 512):
        said = {"queries": batch, "seconds": seconds * batch / 64, "same_ids": same}
        yield {**row, "search": "lax.top_k", **said}


class OtherAttention(nn.Module):
    """The product's `Attention` with another way to mix the values: jax's own, or none (the projections alone)."""

    config: ModelConfig
    implementation: str
    skips_padding: bool
    """Whether it leaves out the rows of padding, too, whose values nobody reads."""

    @nn.compact
    def __call__(self, x: jax.Array, lengths: jax.Array) -> jax.Array:
        """Args: x [positions, hidden]; lengths [batch], of the sequences that are not padding."""
        config = self.config
        dense = functools.partial(nn.Dense, config.hidden_size, dtype=config.dtype)
        shape = (len(lengths), -1, config.num_heads, config.hidden_size // config.num_heads)
        query, key, value = (dense(name=name)(x).reshape(shape) for name in ("query", "key", "value"))
        context = query + key + value
        if self.implementation != "projections":
            context = jax.nn.dot_product_attention(
                query,
                key,
                value,
                query_seq_lengths=lengths if self.skips_padding else None,
                key_value_seq_lengths=lengths,
                implementation=self.implementation,
            )
        return dense(name="output")(context.reshape(x.shape))


def attention(*, dry: bool) -> Iterator[dict]:
    """One attention module forward and backward on 128 rows of 384 positions with padding, by its implementations."""
    rows = 4 if dry else ROWS
    lengths = jnp.asarray(_lengths(rows), jnp.int32)
    mask = jnp.arange(JOINT_LEN) < lengths[:, None]
    part = alone(Tokens(mask.astype(jnp.int32), mask, mask.astype(jnp.int32)))
    for model in (BASE, MINILM):
        config = ModelConfig(dtype="bfloat16", **DRY) if dry else model
        x = jax.random.normal(jax.random.key(1), (rows * JOINT_LEN, config.hidden_size), jnp.bfloat16)
        params = _random_layers(Attention(config), x, part)
        wanted = None
        for name in ("product", "product, dropout 0", "xla", "cudnn", "cudnn, padding skipped", "projections"):
            row = {"heads": config.num_heads, "of": config.hidden_size // config.num_heads, "attention": name}

            def loss(params, x, name=name, config=config):
                if name.startswith("product"):
                    out = Attention(config).apply(
                        {"params": params}, x, part, name != "product", rngs={"dropout": jax.random.key(2)}
                    )
                else:
                    implementation, _, how = name.partition(", ")
                    out = OtherAttention(config, implementation, bool(how)).apply({"params": params}, x, lengths)
                return jnp.where(mask.reshape(-1, 1), out, 0).astype(jnp.float32).var()

            try:
                run = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
                row["ms"] = 1e3 * median_seconds(run, params, x)
                leaves = jax.tree.leaves(jax.device_get(run(params, x)[1]))
                found = np.concatenate([leaf.astype(np.float32).reshape(-1) for leaf in leaves])
            except Exception as error:  # not every device has every implementation
                yield {**row, "error": f"{type(error).__name__}: {error}"[:500]}
                continue
            if name == "product, dropout 0":
                wanted = found
            elif name.startswith(("xla", "cudnn")) and wanted is not None:
                row["difference_of_gradients"] = float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))
            yield row


def _lengths(rows: int) -> np.ndarray:
    """Wordpieces of `rows` joint sequences."""
    return real_batch(0, -(-rows // (CANDIDATES - 1))).joint.mask.sum(-1).reshape(-1)[:rows]


def _random_layers(module: nn.Module, x: jax.Array, part: Packed) -> dict:
    """Random parameters of a part of the encoder."""
    return jax.device_put(drawn(jax.eval_shape(lambda: module.init(jax.random.key(0), x, part, True))["params"]))
