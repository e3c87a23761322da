"""Shapes of the longest batch of each phase, split over devices: every input at its greatest length, every mask used.

Nothing is longer, so a step that is compiled for them needs the most memory that the phase ever needs.
"""

import jax
import jax.numpy as jnp
import numpy as np

from realm_jax.batches import FinetuneBatch, IctBatch, PretrainBatch, Tokens
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


class _Shapes:
    """Makes shapes with leading axes [devices, rows of a device]."""

    def __init__(self, config: Config, phase: str, devices: int):
        parts = micro_batches(config, phase, devices)
        share = -(-getattr(config, phase).batch_size // devices)
        self._rows = (devices, -(-share // parts) * parts)

    def array(self, *shape: int, dtype=jnp.int32) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((*self._rows, *shape), dtype)

    def tokens(self, *shape: int) -> Tokens:
        return Tokens(self.array(*shape), self.array(*shape, dtype=bool), self.array(*shape))


def ict(config: Config, devices: int) -> IctBatch:
    """[devices, rows of a device, …]."""
    of = _Shapes(config, "ict", devices)
    query, block = of.tokens(config.ict.query_len_tokens), of.tokens(config.corpus.block_len_tokens)
    return IctBatch(query, block, weight=of.array(dtype=jnp.float32))


def pretrain(config: Config, devices: int) -> PretrainBatch:
    """[devices, rows of a device, …]."""
    settings, of = config.pretrain, _Shapes(config, "pretrain", devices)
    blocks, masks = settings.num_candidates - 1, settings.max_masks
    shares, rows = devices * micro_batches(config, "pretrain", devices), of.array().size
    slots = mask_slots(np.ones((rows, masks), np.float32), shares, every_slot=True)
    return PretrainBatch(
        query=of.tokens(settings.query_len_tokens),
        blocks=of.tokens(blocks, config.corpus.block_len_tokens),
        joint=of.tokens(blocks, config.joint_len_tokens),
        null_joint=of.tokens(settings.query_len_tokens + 1),
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
        query=of.tokens(settings.question_len_tokens),
        beam_emb=of.array(beam, config.model.projection_dim, dtype=jnp.float32),
        beam_mask=of.array(beam, dtype=bool),
        beam_correct=of.array(beam, dtype=bool),
        blocks=of.tokens(read, config.corpus.block_len_tokens) if trains_blocks else None,
        joint=of.tokens(read, length),
        body_mask=of.array(read, length, dtype=bool),
        correct_spans=of.array(read, len(spans(length, settings.max_span_width)[0]), dtype=bool),
        weight=of.array(dtype=jnp.float32),
    )
