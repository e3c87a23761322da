"""FLOPs of a pre-training step, counted by the planner's formula: of all rows, and of real wordpieces alone.

Those of the matmuls, a multiply-add as 2 and the backward pass as twice the forward one.
"""

import numpy as np

from realm_jax.batches import Packed, PretrainBatch
from realm_jax.config import ModelConfig
from realm_jax.plan import work
from realm_jax.plan.work import NULL_LEN, head_macs


def bert_macs(model: ModelConfig, sequences: int, length: int) -> int:
    """Multiply-adds of one forward pass over sequences of one length."""
    return sequences * work.bert_macs(model, np.array([length]))


def padded_flops(model: ModelConfig, batch: PretrainBatch) -> int:
    """FLOPs of the training step on a batch, packed or not, with all padding; the head runs at the slots."""
    candidates = batch.candidate_mask.shape[-1]
    macs = bert_macs(model, 1, NULL_LEN) + head_macs(model, len(batch.mask_slots) * candidates)
    for tokens in (batch.query, batch.blocks, batch.joint, batch.null_joint):
        length = tokens.longest if isinstance(tokens, Packed) else tokens.ids.shape[-1]
        macs += round(bert_macs(model, 1, length) * tokens.ids.size / length)
    return 6 * macs


def real_flops(model: ModelConfig, batch: PretrainBatch) -> int:
    """The same of a batch that isn't packed, without its padding: the head at the predictions alone."""
    candidates = batch.candidate_mask.shape[-1]
    macs = bert_macs(model, 1, NULL_LEN) + head_macs(model, int((batch.mask_weights > 0).sum()) * candidates)
    for tokens in (batch.query, batch.blocks, batch.joint, batch.null_joint):
        macs += work.bert_macs(model, tokens.mask.sum(-1).reshape(-1))
    return 6 * macs
