"""FLOPs of each phase: those of the matmuls, a multiply-add as 2.

With hidden size h, l layers and feed-forward size m, one forward pass over a sequence of L wordpieces costs

    bert(L) = l · L · (4h² + 2hm + 2Lh)        multiply-adds

and a backward pass twice as much. Sequences are packed into rows of the greatest length, `FULL` of which they fill;
what is computed are these rows. A pre-training step on B queries with k candidates, query length q, block length b, p
predicted wordpieces and vocabulary V costs

    6 · [ B·bert(q) + B(k−1)·bert(b)              embedder: queries and candidates
        + B(k−1)·bert(q+b) + B·bert(q)            encoder: with blocks, and with the null block
        + bert(3) + B·p·k·h(h+V) ]                null block; MLM head at the predictions alone

where each bert(…) is that of the rows its sequences take, of the corpus's own lengths if they are known.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from realm_jax.config import Config, ModelConfig
from realm_jax.plan import device_memory

NULL_LEN = 3  # [CLS] [SEP] [SEP]
FORWARD, BACKWARD = 1, 2  # passes, in units of a forward one
FLOPS_OF_MAC = 2
FULL = 0.93
"""Share of the rows' positions that sequences fill, spare rows included (benchmarks/pretrain_step.py)."""


@dataclass(frozen=True)
class Lengths:
    """Mean wordpieces of a corpus's sequences, specials included."""

    sentence: float
    """Of a sentence, as a query."""
    block: float
    """Of a block, with its title."""


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


def of_step(
    config: Config, phase: str, *, devices: int = 1, predictions: int = 0, lengths: Lengths | None = None
) -> StepWork:
    """FLOPs of a step of `ict`, `pretrain` or `finetune`.

    Args:
        devices: over how many the batch is split; rows of padding are computed like others.
        predictions: of a query, for which the MLM head runs; 0 for all of `pretrain.max_masks`.
        lengths: of the corpus; None where they are not known, and each sequence fills its row.
    """
    own = device_memory.share(config, phase, devices)
    lengths = lengths or Lengths(math.inf, math.inf)
    if phase == "pretrain":
        return _pretrain(config, own * devices, predictions or config.pretrain.max_masks, lengths)
    if phase == "finetune":
        return _finetune(config, own * devices, lengths)
    return _ict(config, own * devices, lengths, is_split=device_memory.held(config, phase, devices) < own)


def of_embedding(model: ModelConfig, batches: Iterable[tuple[int, int]]) -> int:
    """FLOPs of embedding batches of (sequences, length) once."""
    return FLOPS_OF_MAC * FORWARD * sum(_macs(model, sequences, length, length) for sequences, length in batches)


def of_search(config: Config, queries: int, blocks: int) -> int:
    """FLOPs of scoring all blocks for so many queries."""
    return FLOPS_OF_MAC * queries * blocks * config.model.projection_dim


def _macs(model: ModelConfig, sequences: int, mean: float | int, row_length: int) -> int:
    """Multiply-adds of one forward pass over the rows that sequences of a mean length take, one a row at most."""
    rows = sequences * min(1.0, mean / row_length / FULL)
    return round(rows * bert_macs(model, np.array([row_length])))


def _ict(config: Config, batch: int, lengths: Lengths, *, is_split: bool) -> StepWork:
    model = config.model
    forward = _macs(model, batch, lengths.sentence, config.ict.query_len_tokens)
    forward += _macs(model, batch, lengths.block, config.corpus.block_len_tokens)
    again = is_split + model.gradient_checkpointing  # GradCache embeds all parts twice
    return _work(forward, trained=forward, again=again * forward, retrieval=0)


def _pretrain(config: Config, batch: int, predictions: int, lengths: Lengths) -> StepWork:
    pretrain, model, block = config.pretrain, config.model, config.corpus.block_len_tokens
    blocks, query = pretrain.num_candidates - 1, pretrain.query_len_tokens
    joint = lengths.sentence + lengths.block
    of_blocks = _macs(model, batch * blocks, lengths.block, block), _macs(model, batch * blocks, joint, query + block)
    queries = _macs(model, batch, lengths.sentence, query)
    embedder, encoder = queries + of_blocks[0] + _macs(model, 1, NULL_LEN, NULL_LEN), queries + of_blocks[1]
    head = head_macs(model, batch * predictions * pretrain.num_candidates)
    trained = encoder + head + embedder * pretrain.train_retriever
    again = model.gradient_checkpointing * (embedder * pretrain.train_retriever + encoder)
    again += (0 < pretrain.micro_candidates < blocks) * (of_blocks[0] * pretrain.train_retriever + of_blocks[1])
    return _work(embedder + encoder + head, trained=trained, again=again, retrieval=queries)


def _finetune(config: Config, batch: int, lengths: Lengths) -> StepWork:
    """Questions are taken to be as long as sentences."""
    finetune, model, block = config.finetune, config.model, config.corpus.block_len_tokens
    read, question = finetune.reader_blocks, finetune.question_len_tokens
    queries, towers = _macs(model, batch, lengths.sentence, question), finetune.train_retriever
    blocks = _macs(model, batch * read, lengths.block, block) if towers == "both" else 0
    joint = lengths.sentence + lengths.block
    positions = min(float(question + block), joint / FULL)
    spans = round(batch * read * positions * model.hidden_size * 2 * model.span_hidden_size)
    reader = _macs(model, batch * read, joint, question + block)
    embedder = (queries if towers != "none" else 0) + blocks
    again = model.gradient_checkpointing * (embedder + reader)
    return _work(queries + blocks + reader + spans, trained=embedder + reader + spans, again=again, retrieval=queries)


def _work(forward: int, *, trained: int, again: int, retrieval: int) -> StepWork:
    """The work, from multiply-adds of forward passes: over all, over what is trained, made again, and for retrieval."""
    return StepWork(
        FLOPS_OF_MAC * (forward + BACKWARD * trained), FLOPS_OF_MAC * again, FLOPS_OF_MAC * FORWARD * retrieval
    )
