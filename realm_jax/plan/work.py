"""FLOPs of each phase: those of the matmuls, a multiply-add as 2.

With hidden size h, l layers and feed-forward size m, one forward pass over a sequence of L wordpieces costs

    bert(L) = l · L · (4h² + 2hm + 2Lh)        multiply-adds

and a backward pass twice as much. A pre-training step on B queries with k candidates, query length q, block length b, p
predicted wordpieces and vocabulary V costs

    6 · [ B·bert(q) + B(k−1)·bert(b)              embedder: queries and candidates
        + B(k−1)·bert(q+b) + B·bert(q)            encoder: with blocks, and with the null block
        + bert(3) + B·p·k·h(h+V) ]                null block; MLM head at the predictions alone

Sequences are padded to these lengths, whatever the corpus's own are; only embedding follows those.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from realm_jax.config import Config, ModelConfig
from realm_jax.plan import device_memory

NULL_LEN = 3  # [CLS] [SEP] [SEP]
FORWARD, BACKWARD = 1, 2  # passes, in units of a forward one
FLOPS_OF_MAC = 2


@dataclass(frozen=True)
class StepWork:
    """FLOPs of one step over all devices."""

    model: int
    """What the mathematics needs: one forward and one backward pass."""
    again: int
    """Forward passes that are made again to save memory: by gradient checkpointing, split candidates and GradCache."""
    retrieval: int
    """Queries of the next batch, embedded to search for their blocks."""

    @property
    def all(self) -> int:
        """All that a device computes."""
        return self.model + self.again + self.retrieval


def bert_macs(model: ModelConfig, lengths: Int[np.ndarray, " sequences"]) -> int:
    """Multiply-adds of one forward pass over sequences of these lengths."""
    lengths, hidden = np.asarray(lengths).astype(np.int64), model.hidden_size
    weights = 4 * hidden**2 + 2 * hidden * model.intermediate_size
    return model.num_layers * int((lengths * weights + 2 * hidden * lengths**2).sum())


def head_macs(model: ModelConfig, positions: int) -> int:
    """Multiply-adds of the MLM head: its transform and the vocabulary's matrix."""
    return positions * model.hidden_size * (model.hidden_size + model.vocab_size)


def of_step(config: Config, phase: str, *, devices: int = 1, predictions: int = 0) -> StepWork:
    """FLOPs of a step of `ict`, `pretrain` or `finetune`.

    Args:
        devices: over how many the batch is split; rows of padding are computed like others.
        predictions: of a query, for which the MLM head runs; 0 for all of `pretrain.max_masks`.
    """
    own = device_memory.share(config, phase, devices)
    if phase == "pretrain":
        return _pretrain(config, own * devices, predictions or config.pretrain.max_masks)
    if phase == "finetune":
        return _finetune(config, own * devices)
    return _ict(config, own * devices, is_split=device_memory.held(config, phase, devices) < own)


def of_embedding(model: ModelConfig, batches: Iterable[tuple[int, int]]) -> int:
    """FLOPs of embedding batches of (sequences, length) once."""
    return FLOPS_OF_MAC * FORWARD * sum(_macs(model, sequences, length) for sequences, length in batches)


def of_search(config: Config, queries: int, blocks: int) -> int:
    """FLOPs of scoring all blocks for so many queries."""
    return FLOPS_OF_MAC * queries * blocks * config.model.projection_dim


def _macs(model: ModelConfig, sequences: int, length: int) -> int:
    return sequences * bert_macs(model, np.array([length]))


def _ict(config: Config, batch: int, *, is_split: bool) -> StepWork:
    model = config.model
    forward = _macs(model, batch, config.ict.query_len_tokens) + _macs(model, batch, config.corpus.block_len_tokens)
    again = is_split + model.gradient_checkpointing  # GradCache embeds all parts twice
    return _work(forward, trained=forward, again=again * forward, retrieval=0)


def _pretrain(config: Config, batch: int, predictions: int) -> StepWork:
    pretrain, model, block = config.pretrain, config.model, config.corpus.block_len_tokens
    blocks, query = pretrain.num_candidates - 1, pretrain.query_len_tokens
    of_blocks = _macs(model, batch * blocks, block), _macs(model, batch * blocks, query + block)
    queries = _macs(model, batch, query)
    embedder, encoder = queries + of_blocks[0] + _macs(model, 1, NULL_LEN), queries + of_blocks[1]
    head = head_macs(model, batch * predictions * pretrain.num_candidates)
    trained = encoder + head + embedder * pretrain.train_retriever
    again = model.gradient_checkpointing * (embedder * pretrain.train_retriever + encoder)
    again += (0 < pretrain.micro_candidates < blocks) * (of_blocks[0] * pretrain.train_retriever + of_blocks[1])
    return _work(embedder + encoder + head, trained=trained, again=again, retrieval=queries)


def _finetune(config: Config, batch: int) -> StepWork:
    finetune, model, block = config.finetune, config.model, config.corpus.block_len_tokens
    read, question = finetune.reader_blocks, finetune.question_len_tokens
    queries, towers = _macs(model, batch, question), finetune.train_retriever
    blocks = _macs(model, batch * read, block) if towers == "both" else 0
    spans = batch * read * (question + block) * model.hidden_size * 2 * model.span_hidden_size
    reader = _macs(model, batch * read, question + block)
    embedder = (queries if towers != "none" else 0) + blocks
    again = model.gradient_checkpointing * (embedder + reader)
    return _work(queries + blocks + reader + spans, trained=embedder + reader + spans, again=again, retrieval=queries)


def _work(forward: int, *, trained: int, again: int, retrieval: int) -> StepWork:
    """The work, from multiply-adds of forward passes: over all, over what is trained, made again, and for retrieval."""
    return StepWork(
        FLOPS_OF_MAC * (forward + BACKWARD * trained), FLOPS_OF_MAC * again, FLOPS_OF_MAC * FORWARD * retrieval
    )
