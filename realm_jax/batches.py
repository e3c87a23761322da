"""Batches that pass to the devices, with the shapes of their arrays.

Axis names: batch, candidates (k), tokens, masks. All arrays of a batch are NumPy on the host and gain a leading device
axis in `parallel.shard`.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

Array = Any  # a NumPy array on the host, a JAX array on the devices


def batch(cls: type) -> type:
    """Makes a class a frozen dataclass and a JAX pytree of its fields."""
    cls = dataclass(frozen=True)(cls)
    return jax.tree_util.register_dataclass(cls, [field.name for field in dataclasses.fields(cls)], [])


@batch
class Tokens:
    """A padded batch of token sequences: the input of a BERT."""

    ids: Array
    """int32 [..., tokens]"""
    mask: Array
    """bool [..., tokens]: true where not padding."""
    types: Array
    """int32 [..., tokens]: segment ids, 0 for the query or title and 1 for a block's body."""


@batch
class IctBatch:
    """Sentences and the blocks that they were taken from; row i of one belongs to row i of the other."""

    query: Tokens
    """[batch, tokens]"""
    block: Tokens
    """[batch, tokens]"""
    weight: Array
    """float32 [batch]: 0 for a padding row."""


@batch
class MaskedQueries:
    """Masked sentences, before retrieval."""

    query: Tokens
    """[batch, tokens]: `[CLS] masked sentence [SEP]`"""
    mask_positions: Array
    """int32 [batch, masks]: positions of predicted wordpieces in the query, 0 where unused."""
    mask_targets: Array
    """int32 [batch, masks]: the wordpieces that were there."""
    mask_weights: Array
    """float32 [batch, masks]: 1 for a predicted wordpiece, 0 where unused."""
    source_hash: Array
    """uint64 [batch]: content hash of the block that the query was cut from, which retrieval must not return."""
    source_block: Array
    """int64 [batch]: that block's ordinal in the pre-training text."""


@batch
class PretrainBatch:
    """Masked sentences with their candidates. The null block is candidate 0 and stored apart, without padding."""

    query: Tokens
    """[batch, tokens]"""
    blocks: Tokens
    """[batch, candidates - 1, tokens]: `[CLS] title [SEP] body [SEP]`, the embedder's input"""
    joint: Tokens
    """[batch, candidates - 1, tokens]: `[CLS] query [SEP] body [SEP]`, the encoder's input"""
    null_joint: Tokens
    """[batch, tokens]: `[CLS] query [SEP] [SEP]`"""
    candidate_mask: Array
    """bool [batch, candidates]: false where the search found no block."""
    mask_positions: Array
    """int32 [batch, masks]"""
    mask_targets: Array
    """int32 [batch, masks]"""
    mask_weights: Array
    """float32 [batch, masks]"""
    mask_slots: Array
    """int32 [devices * used]: for each device's share of the batch, the flat places b * masks + j of its real
    predictions, then batch * masks up to a common number; the MLM head runs on these alone."""


@batch
class FinetuneBatch:
    """Questions with the blocks that the index proposes (the beam), best first, and those of them that are read."""

    query: Tokens
    """[batch, tokens]"""
    beam_emb: Array
    """float32 [batch, beam, dim]: the index's embeddings of the beam."""
    beam_mask: Array
    """bool [batch, beam]: false where the search found no block."""
    beam_correct: Array
    """bool [batch, beam]: the block has an answer."""
    blocks: Tokens | None
    """[batch, blocks, tokens]: the embedder's input for the blocks that are read, where the block tower is trained."""
    joint: Tokens
    """[batch, blocks, tokens]: `[CLS] question [SEP] body [SEP]`"""
    body_mask: Array
    """bool [batch, blocks, tokens]: true at the wordpieces of the body."""
    correct_spans: Array
    """bool [batch, blocks, spans]: the span is an answer; spans in the order of `models.reader.spans`."""
    weight: Array
    """float32 [batch]: 0 for a padding row."""


@batch
class TaggerInput:
    """Sentences as the tagger reads them."""

    tokens: Tokens
    """[batch, tokens]: `[CLS] sentence [SEP]`"""
    casings: Array
    """int32 [batch, tokens]: how the word of each wordpiece is written (`data.words.CASINGS`)."""
    is_first: Array
    """bool [batch, tokens]: true at the first wordpiece of each word, where its label stands."""


@batch
class TaggerBatch:
    """Sentences with their labels."""

    input: TaggerInput
    labels: Array
    """int32 [batch, tokens]: ids of the words' labels at their first wordpieces, 0 elsewhere."""


def stack(rows: list) -> Any:
    """Stacks equal-shaped arrays, or records or tuples of them, along a new first axis."""
    first = rows[0]
    if isinstance(first, tuple):
        return tuple(stack(list(column)) for column in zip(*rows, strict=True))
    if dataclasses.is_dataclass(first):
        return type(first)(**{f.name: stack([getattr(row, f.name) for row in rows]) for f in dataclasses.fields(first)})
    return np.stack(rows)
