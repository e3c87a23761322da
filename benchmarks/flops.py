"""FLOPs of a pre-training step, counted by the formula of docs/scaling.md: as padded, and on real wordpieces alone.

Those of the matmuls, a multiply-add as 2 and the backward pass as twice the forward one.
"""

import numpy as np

from realm_jax.batches import PretrainBatch
from realm_jax.config import ModelConfig

NULL_LEN = 3  # the null block is embedded once


def bert_macs(model: ModelConfig, sequences: int, length: int) -> int:
    """Multiply-adds of one forward pass: projections and feed-forward of every token, and attention over all."""
    return sequences * _bert_macs(model, np.array([length]))


def head_macs(model: ModelConfig, positions: int) -> int:
    """Multiply-adds of the MLM head: its transform and the vocabulary's matrix."""
    return positions * model.hidden_size * (model.hidden_size + model.vocab_size)


def padded_flops(model: ModelConfig, batch: PretrainBatch) -> int:
    """FLOPs of the training step on a batch as padded; the head runs at the slots."""
    candidates = batch.candidate_mask.shape[-1]
    macs = bert_macs(model, 1, NULL_LEN) + head_macs(model, len(batch.mask_slots) * candidates)
    for tokens in (batch.query, batch.blocks, batch.joint, batch.null_joint):
        length = tokens.ids.shape[-1]
        macs += bert_macs(model, tokens.ids.size // length, length)
    return 6 * macs


def real_flops(model: ModelConfig, batch: PretrainBatch) -> int:
    """The same if no padding were computed: each sequence at its own length, the head at the predictions alone."""
    candidates = batch.candidate_mask.shape[-1]
    macs = bert_macs(model, 1, NULL_LEN) + head_macs(model, int((batch.mask_weights > 0).sum()) * candidates)
    for tokens in (batch.query, batch.blocks, batch.joint, batch.null_joint):
        macs += _bert_macs(model, tokens.mask.sum(-1).reshape(-1))
    return 6 * macs


def _bert_macs(model: ModelConfig, lengths: np.ndarray) -> int:
    lengths, hidden = lengths.astype(np.int64), model.hidden_size
    weights = 4 * hidden**2 + 2 * hidden * model.intermediate_size
    return model.num_layers * int((lengths * weights + 2 * hidden * lengths**2).sum())
