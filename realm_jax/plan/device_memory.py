"""What a training step needs of one device's memory, by part: calculated, in bytes.

The parts that are exact: parameters, moments and gradients are float32, the stacked copy of scanned layers has the
compute type. Activations are those that XLA keeps for the backward pass, counted per wordpiece and layer and compared
with its own count (`benchmarks/plan.py`, `benchmarks/compiled_memory.py`): a compiler's schedule moves them by some
percent. A TPU's gives the place of activations to gradients as the backward pass frees them, and updates in place. On a
CPU, attention keeps no weights (`models/attention.py`), and XLA computes much of bfloat16 in float32.
"""

from dataclasses import dataclass
from typing import Literal

from realm_jax.config import Config, ModelConfig
from realm_jax.plan import parameters
from realm_jax.plan.parameters import FLOAT32

Platform = Literal["tpu", "gpu", "cpu"]  # JAX's names

TOKEN_BYTES = 9  # of an input's position: id and segment int32, mask bool
BATCHES_WAITING = 2  # the next one, and the one after it, lie on the device while it works
MOMENTS = 2  # of Adam
HIDDEN_KEPT = 7.4  # arrays of the hidden width that a layer keeps: its input, query, key, value, context, norms
WIDE_KEPT = {"erf": 4, "tanh": 3}  # of the feed-forward width: around the GELU
ATTENTION_KEPT = {"tpu": 2.5, "gpu": 2.5, "cpu": 0.0}  # float32 arrays of attention weights
BFLOAT16_BYTES = {"tpu": 2.0, "gpu": 2.0, "cpu": 3.3}
SCANNED = 1.12  # times as much where a loop over the layers keeps them: nothing is fused with what follows it
DROPOUT_BYTES = 8  # an element that is dropped out
HIDDEN_OUTSIDE = 4  # arrays of the hidden width before the first and after the last layer
UPDATE_KEPT = 4  # times the gradients, at the step's end: summed over devices, clipped, applied
UPDATE_KEPT_ALONE = 2.5  # the same in pre-training on one device
LOGITS_KEPT = 2  # float32 arrays of vocabulary logits, or of ICT's scores
SPANS_KEPT = 7  # float32 arrays of the projections that the reader's spans begin and end with, and their gradients


@dataclass(frozen=True)
class DeviceMemory:
    """Bytes of one device."""

    step: dict[str, int]
    """By part, while a step runs: what a compiler counts."""
    beside: dict[str, int]
    """By part, what lies there besides: batches that wait, the blocks that exact search goes through."""

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self.step.values()) + sum(self.beside.values())

    @property
    def fixed(self) -> int:
        """What parameters and optimizer take, however small the batch is."""
        return self.step["parameters"] + self.step["optimizer"]


@dataclass(frozen=True)
class Pass:
    """The sequences that one BERT reads at once on a device."""

    sequences: int
    length: int
    is_split: bool = False
    """These are a part of the candidates: nothing of them is kept but their result."""

    @property
    def tokens(self) -> int:
        """Positions, padding included."""
        return self.sequences * self.length


def of_phase(config: Config, phase: str, devices: int, *, platform: Platform, blocks: int = 0) -> DeviceMemory:
    """Memory of a device in `ict`, `pretrain` or `finetune`.

    Args:
        devices: over how many the batch is split.
        platform: of the device.
        blocks: of the index that are on this device for exact search; 0 where none is searched there.
    """
    is_tpu = platform == "tpu"
    size = BFLOAT16_BYTES[platform] if config.model.dtype == "bfloat16" else float(FLOAT32)
    trained, own, at_once = (
        parameters.trained(config, phase),
        share(config, phase, devices),
        held(config, phase, devices),
    )
    in_parts, batch = at_once < own, _batch_bytes(config, phase, own)
    gradients = _gradients(config, phase, in_parts=in_parts, is_tpu=is_tpu)
    activations = _activations(config, phase, at_once, is_part=in_parts, size=size, platform=platform)
    if is_tpu and not in_parts:
        activations = max(0, activations - gradients)  # beyond the place that gradients take over
    step = {
        "parameters": FLOAT32 * sum(parameters.of_phase(config, phase).values()),
        "optimizer": MOMENTS * FLOAT32 * trained + _accumulated(config, phase),
        "batch": batch,
        "gradients": gradients,
        "stacked layers": _stacked(config, phase, size),
        "activations": activations,
    }
    during = step["gradients"] + step["stacked layers"] + step["activations"]
    updated = UPDATE_KEPT_ALONE if phase == "pretrain" and devices == 1 else UPDATE_KEPT
    least = 0.0 if is_tpu else FLOAT32 * trained * updated
    step["update, beyond these"] = max(0, round(least - during))
    return DeviceMemory(
        step, {"batches in waiting": BATCHES_WAITING * batch, "exact search": _search(config, phase, blocks)}
    )


def micro_batch(config: Config, phase: str) -> int:
    """Queries that a device holds at once; 0 for all of its share."""
    return {"ict": config.ict, "pretrain": config.pretrain, "finetune": config.finetune}[phase].micro_batch


def batch_size(config: Config, phase: str) -> int:
    """Queries of a step over all devices."""
    return {"ict": config.ict, "pretrain": config.pretrain, "finetune": config.finetune}[phase].batch_size


def share(config: Config, phase: str, devices: int) -> int:
    """Queries of a step that each device has, with the rows of padding of fine-tuning."""
    own, micro = -(-batch_size(config, phase) // devices), micro_batch(config, phase)
    return -(-own // micro) * micro if phase == "finetune" and 0 < micro < own else own


def held(config: Config, phase: str, devices: int) -> int:
    """Queries that a device holds at once."""
    own = share(config, phase, devices)
    return min(micro_batch(config, phase) or own, own)


def passes(config: Config, phase: str, queries: int, *, is_part: bool) -> list[Pass]:
    """What the BERTs read at once for so many queries of a device; only what is kept for a backward pass.

    Args:
        is_part: there are more queries than these.
    """
    block = config.corpus.block_len_tokens
    if phase == "ict":
        return [Pass(queries, config.ict.query_len_tokens, is_part), Pass(queries, block, is_part)]
    if phase == "finetune":
        finetune = config.finetune
        read = queries * finetune.reader_blocks
        found = [Pass(read, config.reader_len_tokens)]
        found += [Pass(queries, finetune.question_len_tokens)] if finetune.train_retriever != "none" else []
        return found + ([Pass(read, block)] if finetune.train_retriever == "both" else [])
    pretrain = config.pretrain
    blocks, query = pretrain.num_candidates - 1, pretrain.query_len_tokens
    split = 0 < pretrain.micro_candidates < blocks
    chunk = queries * (pretrain.micro_candidates if split else blocks)
    encoder = [Pass(chunk, config.joint_len_tokens, split), Pass(queries, query + 1)]
    embedder = [Pass(queries, query), Pass(chunk, block, split)] if pretrain.train_retriever else []
    return encoder + embedder


def _activations(config: Config, phase: str, queries: int, *, is_part: bool, size: float, platform: Platform) -> int:
    model = config.model
    kept, working = 0.0, [0.0]
    for read in passes(config, phase, queries, is_part=is_part):
        of_it = _outside_bytes(model, read, size) + model.num_layers * _kept_bytes(model, read, size, platform)
        again = _layer_bytes(model, read, size, platform) if model.gradient_checkpointing else 0.0
        kept += 0 if read.is_split else of_it
        working.append((of_it if read.is_split else 0) + again)
    return round(kept + max(*working, _logits_bytes(config, phase, queries, size)))


def _kept_bytes(model: ModelConfig, read: Pass, size: float, platform: Platform) -> float:
    """What one layer keeps from its forward to its backward pass."""
    if model.gradient_checkpointing:
        return read.tokens * model.hidden_size * size
    return _layer_bytes(model, read, size, platform) * (SCANNED if model.scan_layers else 1)


def _layer_bytes(model: ModelConfig, read: Pass, size: float, platform: Platform) -> float:
    """All that the backward pass of one layer needs."""
    hidden, wide = read.tokens * model.hidden_size, read.tokens * model.intermediate_size
    arrays = ATTENTION_KEPT[platform]
    attention = read.sequences * model.num_heads * read.length**2 if arrays else 0
    dropped = DROPOUT_BYTES * (2 * hidden + attention) if model.dropout else 0
    kept = HIDDEN_KEPT * hidden + WIDE_KEPT[model.gelu] * wide
    return size * kept + FLOAT32 * arrays * attention + dropped


def _outside_bytes(model: ModelConfig, read: Pass, size: float) -> float:
    return HIDDEN_OUTSIDE * read.tokens * model.hidden_size * size


def _logits_bytes(config: Config, phase: str, queries: int, size: float) -> float:
    """What the MLM head with all predictions used, the reader's spans, or ICT's scores take."""
    model = config.model
    if phase == "pretrain":
        rows = queries * config.pretrain.max_masks * config.pretrain.num_candidates
        return float(LOGITS_KEPT * FLOAT32 * rows * model.vocab_size)
    if phase == "finetune":
        positions = queries * config.finetune.reader_blocks * config.reader_len_tokens
        return float(SPANS_KEPT * FLOAT32 * positions * model.span_hidden_size)
    return float(LOGITS_KEPT * FLOAT32 * queries * config.ict.batch_size)


def _gradients(config: Config, phase: str, *, in_parts: bool, is_tpu: bool) -> int:
    """Gradients of all that is trained, and sums beside them.

    Unrolled layers give their activations up for gradients as the backward pass goes; a loop over layers or parts holds
    all of both. ICT's loops over queries and blocks have each a sum, and the gradients of a part; a TPU's share one.
    """
    whole = FLOAT32 * parameters.trained(config, phase)
    if phase == "ict":
        return whole * ((2 if is_tpu else 3) if in_parts else 1)
    pretrain = config.pretrain
    splits = phase == "pretrain" and 0 < pretrain.micro_candidates < pretrain.num_candidates - 1
    largest = FLOAT32 * max(parameters.of_phase(config, phase).values())
    return whole * (2 if in_parts and config.model.scan_layers else 1) + largest * splits


def _stacked(config: Config, phase: str, size: float) -> int:
    """The stacked parameters of all BERTs, and the gradients of one at a time."""
    if not config.model.scan_layers:
        return 0
    berts = len(parameters.of_phase(config, phase))
    return round((berts + 1) * parameters.of_layers(config.model) * size)


def _accumulated(config: Config, phase: str) -> int:
    """The retriever's gradients of several steps, which `pretrain.retriever_update_every` applies at once."""
    if phase != "pretrain" or config.pretrain.retriever_update_every == 1 or not config.pretrain.train_retriever:
        return 0
    return FLOAT32 * parameters.of_phase(config, phase)["embedder"]


def _batch_bytes(config: Config, phase: str, share: int) -> int:
    """A device's share of a batch, every position stored."""
    block = config.corpus.block_len_tokens
    if phase == "ict":
        return share * TOKEN_BYTES * (config.ict.query_len_tokens + block)
    if phase == "finetune":
        finetune, length = config.finetune, config.reader_len_tokens
        spans = length * finetune.max_span_width
        beam = finetune.beam_blocks * (FLOAT32 * config.model.projection_dim + 2)
        read = finetune.reader_blocks * ((TOKEN_BYTES + 1) * length + spans)
        return share * (TOKEN_BYTES * finetune.question_len_tokens + beam + read)
    pretrain = config.pretrain
    blocks = (pretrain.num_candidates - 1) * (block + config.joint_len_tokens)
    masks = 4 * FLOAT32 * pretrain.max_masks
    return share * (TOKEN_BYTES * (2 * pretrain.query_len_tokens + 1 + blocks) + masks)


def _search(config: Config, phase: str, blocks: int) -> int:
    """A version's embeddings, twice where the trainer goes over to newer ones."""
    size = 2 if config.index.dtype == "bfloat16" else FLOAT32
    is_fixed = phase == "finetune" and config.finetune.train_retriever != "both"
    return (1 if is_fixed else 2) * blocks * config.model.projection_dim * size
