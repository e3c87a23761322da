"""Batches that pass to the devices, with the shapes of their arrays.

Axis names: batch, candidates (k), tokens, masks. The arrays of a batch are NumPy arrays on the host; `parallel.shard`
gives them a leading device axis.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool, Float32, Int32, Int64, UInt64

Array = Any
"""A NumPy array on the host, a JAX array on the devices."""


def batch(cls: type) -> type:
    """Makes a class a frozen dataclass and a JAX pytree of its fields; those of type int are no arrays but static."""
    cls = dataclass(frozen=True)(cls)
    cls.__no_type_check__ = True  # JAX also puts other things into its fields: shapes, shardings, arrays of one row
    fields = {field.name: field.type is int for field in dataclasses.fields(cls)}
    arrays, static = ([name for name, is_static in fields.items() if is_static == wanted] for wanted in (False, True))
    return jax.tree_util.register_dataclass(cls, arrays, static)


@batch
class Tokens:
    """A padded batch of token sequences: the input of a BERT."""

    ids: Int32[Array, "*batch tokens"]
    mask: Bool[Array, "*batch tokens"]
    """True where not padding."""
    types: Int32[Array, "*batch tokens"]
    """Segment ids, 0 for the query or title and 1 for a block's body."""


@batch
class Packed:
    """The same sequences one after another in rows of one length, so that little of them is padding.

    Sequences of a device's share may lie in several parts, each with as many; they keep their order, part by part.
    """

    ids: Int32[Array, "*parts rows positions"]
    types: Int32[Array, "*parts rows positions"]
    """Segment ids, as in `Tokens`."""
    sequences: Int32[Array, "*parts rows positions"]
    """Which sequence of its part a wordpiece belongs to, from 1; 0 is padding."""
    places: Int32[Array, "*parts rows positions"]
    """Where in its sequence it stands, from 0."""
    starts: Int32[Array, "*parts sequences"]
    """Where each sequence begins in the rows of its part, laid end to end."""
    lengths: Int32[Array, "*parts sequences"]
    longest: int
    """No sequence has more wordpieces. A row has as many positions, or is the only one of its part."""

    @property
    def mask(self) -> Bool[Array, "*parts rows positions"]:
        """True where not padding."""
        return self.sequences > 0


@batch
class IctBatch:
    """Sentences and the blocks that they were taken from; row i of one belongs to row i of the other."""

    query: Tokens | Packed
    """[batch, tokens]"""
    block: Tokens | Packed
    """[batch, tokens]"""
    weight: Float32[Array, " batch"]
    """0 for a padding row."""


@batch
class MaskedQueries:
    """Masked sentences, before retrieval."""

    query: Tokens
    """[batch, tokens]: `[CLS] masked sentence [SEP]`"""
    mask_positions: Int32[Array, "batch masks"]
    """Positions of predicted wordpieces in the query, 0 where unused."""
    mask_targets: Int32[Array, "batch masks"]
    """The wordpieces that were there."""
    mask_weights: Float32[Array, "batch masks"]
    """1 for a predicted wordpiece, 0 where unused."""
    source_hash: UInt64[Array, " batch"]
    """Content hash of the block that the query was cut from, which retrieval must not return."""
    source_block: Int64[Array, " batch"]
    """That block's ordinal in the pre-training text."""


@batch
class PretrainBatch:
    """Masked sentences with their candidates. The null block is candidate 0 and stored apart, without padding."""

    query: Tokens | Packed
    """[batch, tokens]"""
    blocks: Tokens | Packed
    """[batch, candidates - 1, tokens]: `[CLS] title [SEP] body [SEP]`, the embedder's input"""
    joint: Tokens | Packed
    """[batch, candidates - 1, tokens]: `[CLS] query [SEP] body [SEP]`, the encoder's input"""
    null_joint: Tokens | Packed
    """[batch, tokens]: `[CLS] query [SEP] [SEP]`"""
    candidate_mask: Bool[Array, "batch candidates"]
    """False where the search found no block."""
    mask_positions: Int32[Array, "batch masks"]
    mask_targets: Int32[Array, "batch masks"]
    mask_weights: Float32[Array, "batch masks"]
    mask_slots: Int32[Array, " slots"]
    """As many for each share of the batch, of a device or a micro-batch of it: flat places b * masks + j of the real
    predictions in the share, then batch * masks up to a common number; the MLM head runs on these alone."""


@batch
class FinetuneBatch:
    """Questions with the blocks that the index proposes (the beam), best first, and those of them that are read."""

    query: Tokens | Packed
    """[batch, tokens]"""
    beam_emb: Float32[Array, "batch beam dim"]
    """The index's embeddings of the beam."""
    beam_mask: Bool[Array, "batch beam"]
    """False where the search found no block."""
    beam_correct: Bool[Array, "batch beam"]
    """The block has an answer."""
    blocks: Tokens | Packed | None
    """[batch, blocks, tokens]: the embedder's input for the blocks that are read, where the block tower is trained."""
    joint: Tokens | Packed
    """[batch, blocks, tokens]: `[CLS] question [SEP] body [SEP]`"""
    body_mask: Bool[Array, "batch blocks tokens"]
    """True at the wordpieces of the body."""
    correct_spans: Bool[Array, "batch blocks spans"]
    """The span is an answer; spans in the order of `models.reader.spans`."""
    weight: Float32[Array, " batch"]
    """0 for a padding row."""


@batch
class TaggerInput:
    """Sentences as the tagger reads them."""

    tokens: Tokens
    """[batch, tokens]: `[CLS] sentence [SEP]`"""
    casings: Int32[Array, "batch tokens"]
    """How the word of each wordpiece is written (`data.words.CASINGS`)."""
    is_first: Bool[Array, "batch tokens"]
    """True at the first wordpiece of each word, where its label stands."""


@batch
class TaggerBatch:
    """Sentences with their labels."""

    input: TaggerInput
    labels: Int32[Array, "batch tokens"]
    """Ids of the words' labels at their first wordpieces, 0 elsewhere."""


def stack(rows: list) -> Any:
    """Stacks equal-shaped arrays, or records or tuples of them, along a new first axis."""
    first = rows[0]
    if isinstance(first, tuple):
        return tuple(stack(list(column)) for column in zip(*rows, strict=True))
    if dataclasses.is_dataclass(first):
        return type(first)(**{f.name: stack([getattr(row, f.name) for row in rows]) for f in dataclasses.fields(first)})
    return np.stack(rows)
