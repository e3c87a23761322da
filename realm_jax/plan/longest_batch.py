"""Shapes of the longest batch of each phase, split over devices: every input at its greatest length, every mask used.

Nothing is longer: each sequence fills a row, and a step that is compiled for them needs the most memory that the phase
may ever need. Batches of a real corpus are packed into fewer rows.
"""

import jax
import jax.numpy as jnp
import numpy as np

from realm_jax.batches import FinetuneBatch, IctBatch, Packed, PretrainBatch
from realm_jax.config import Config
from realm_jax.data.assembly import mask_slots
from realm_jax.models.reader import spans


def of_phase(
    config: Config, phase: str, devices: int, own_devices: int = 0
) -> IctBatch | PretrainBatch | FinetuneBatch:
    """The batch of `ict`, `pretrain` or `finetune`: `jax.ShapeDtypeStruct`s of [devices, rows of a device, …].

    Args:
        devices: over how many the whole batch is split.
        own_devices: how many of them this process has, and gives its own share; by default all.
    """
    make = {"ict": ict, "pretrain": pretrain, "finetune": finetune}[phase]
    own = own_devices or devices
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct((own, *leaf.shape[1:]), leaf.dtype), make(config, devices))


def micro_batches(config: Config, phase: str, devices: int) -> int:
    """How many parts a device's share is, whose gradients are added up; ICT has one, which it embeds in chunks."""
    section = getattr(config, phase)
    share = -(-section.batch_size // devices)
    return 1 if phase == "ict" or not section.micro_batch else -(-share // section.micro_batch)


def parts(config: Config, phase: str, devices: int) -> dict[str, int]:
    """In how many parts the sequences of a share are computed, by field of the batch; 1 where it is not named.

    All parts have as many sequences, so there may be more of them than `micro_candidates` or ICT's `micro_batch` says.
    """
    held = -(-getattr(config, phase).batch_size // devices // micro_batches(config, phase, devices))
    if phase == "ict" and config.ict.micro_batch:
        return dict.fromkeys(("query", "block"), _equal_parts(held, -(-held // config.ict.micro_batch)))
    blocks = config.pretrain.num_candidates - 1
    if phase == "pretrain" and 0 < config.pretrain.micro_candidates < blocks:
        wanted = -(-blocks // config.pretrain.micro_candidates)
        return dict.fromkeys(("blocks", "joint"), _equal_parts(held * blocks, wanted))
    return {}


def _equal_parts(sequences: int, least: int) -> int:
    return next(parts for parts in range(least, sequences + 1) if sequences % parts == 0)


class _Shapes:
    """Makes shapes with leading axes [devices, rows of a device]."""

    def __init__(self, config: Config, phase: str, devices: int):
        self.micro_batches = micro_batches(config, phase, devices)
        share = -(-getattr(config, phase).batch_size // devices)
        self._rows = (devices, -(-share // self.micro_batches) * self.micro_batches)
        self._parts = parts(config, phase, devices)

    def array(self, *shape: int, dtype=jnp.int32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((*self._rows, *shape), dtype)

    def packed(self, field: str, length: int, of_query: int = 1) -> Packed:
        """Each sequence alone in its row, `of_query` sequences for each query."""
        devices, queries = self._rows
        parts = self._parts.get(field, 1) * self.micro_batches
        starts = jax.ShapeDtypeStruct((devices, parts, queries * of_query // parts), jnp.int32)
        rows = jax.ShapeDtypeStruct((*starts.shape, length), jnp.int32)
        return Packed(rows, rows, rows, rows, starts, starts, length)


def ict(config: Config, devices: int) -> IctBatch:
    """[devices, rows of a device, …]."""
    of = _Shapes(config, "ict", devices)
    query = of.packed("query", config.ict.query_len_tokens)
    block = of.packed("block", config.corpus.block_len_tokens)
    return IctBatch(query, block, weight=of.array(dtype=jnp.float32))


def pretrain(config: Config, devices: int) -> PretrainBatch:
    """[devices, rows of a device, …]."""
    settings, of = config.pretrain, _Shapes(config, "pretrain", devices)
    blocks, masks = settings.num_candidates - 1, settings.max_masks
    shares, rows = devices * of.micro_batches, of.array().size
    slots = mask_slots(np.ones((rows, masks), np.float32), shares, rows * masks // shares)
    return PretrainBatch(
        query=of.packed("query", settings.query_len_tokens),
        blocks=of.packed("blocks", config.corpus.block_len_tokens, blocks),
        joint=of.packed("joint", config.joint_len_tokens, blocks),
        null_joint=of.packed("null_joint", settings.query_len_tokens + 1),
        candidate_mask=of.array(settings.num_candidates, dtype=bool),
        mask_positions=of.array(masks),
        mask_targets=of.array(masks),
        mask_weights=of.array(masks, dtype=jnp.float32),
        mask_slots=jax.ShapeDtypeStruct((devices, len(slots) // devices), jnp.int32),
    )


def finetune(config: Config, devices: int) -> FinetuneBatch:
    """[devices, rows of a device, …], for a corpus of at least `finetune.beam_blocks` blocks."""
    settings, of = config.finetune, _Shapes(config, "finetune", devices)
    beam, read, length = settings.beam_blocks, settings.reader_blocks, config.reader_len_tokens
    trains_blocks = settings.train_retriever == "both"
    return FinetuneBatch(
        query=of.packed("query", settings.question_len_tokens),
        beam_emb=of.array(beam, config.model.projection_dim, dtype=jnp.float32),
        beam_mask=of.array(beam, dtype=bool),
        beam_correct=of.array(beam, dtype=bool),
        blocks=of.packed("blocks", config.corpus.block_len_tokens, read) if trains_blocks else None,
        joint=of.packed("joint", length, read),
        body_mask=of.array(read, length, dtype=bool),
        correct_spans=of.array(read, len(spans(length, settings.max_span_width)[0]), dtype=bool),
        weight=of.array(dtype=jnp.float32),
    )
