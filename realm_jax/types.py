"""Records and batches that pass between modules, with the shapes of their arrays.

Axis names: batch, candidates (k), tokens, masks. All arrays of a training batch are NumPy on the host
and gain a leading device axis in `parallel.shard`.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = Any  # a NumPy array on the host, a JAX array on the devices


@dataclass(frozen=True)
class Span:
    """A salient span of a text."""

    start: int
    """First character."""
    limit: int
    """One past the last character."""
    type: str
    """DATE, ENTITY, or the label of the tagger's model."""


@dataclass(frozen=True)
class Host:
    """One process of those that train together; each feeds its own devices (see `hosts.this`)."""

    index: int = 0
    """Its place among them, from 0."""
    count: int = 1


@dataclass(frozen=True)
class Record:
    """One document of a source: what every corpus reader yields."""

    id: str
    """Stable and unique within its source."""
    title: str
    text: str
    where: str = ""
    """File and line, for error messages."""
    sentences: tuple[tuple[int, int], ...] | None = None
    """Characters [start, limit) of its sentences, in order, where the source says so itself."""
    spans: tuple[Span, ...] = ()
    """Salient spans within such sentences, in characters of the text."""


@dataclass(frozen=True)
class Block:
    """One retrievable block with its place in the corpus, for people to read."""

    index: int
    """Ordinal over all segments: the row of its embedding."""
    source_id: str
    title: str
    text: str


@dataclass(frozen=True)
class Question:
    """A question with what counts as a right answer."""

    id: str
    """Unique within its set."""
    text: str
    answers: tuple[str, ...] = ()
    """Strings, or regular expressions; empty where none is known."""
    is_regex: bool = False
    gold_passages: tuple[str, ...] = ()
    """Source ids of records in the knowledge corpus of which each answers it, where the set names them."""
    gold_texts: tuple[str, ...] = ()
    """Texts of such passages, where the set has them without an id."""


@dataclass(frozen=True)
class Prediction:
    """What a system answered, and from where. Ranks count from 0; -1 where there is none."""

    question: Question
    answer: str
    """Empty where there was nothing to answer from."""
    is_correct: bool
    """By the rule of the question's set: exact match of normal forms, or its regular expressions."""
    probability: float = float("nan")
    """Of the answer's span among all spans of all blocks that were read."""
    oracle: bool = False
    """Whether a right answer was among those spans."""
    block_rank: int = -1
    """Rank of the block that the answer was read from."""
    span: tuple[int, int] = (0, 0)
    """Characters of the answer in that block's text."""
    blocks: tuple[int, ...] = ()
    """Ordinals of the blocks that were read, by rank."""
    retrieval_scores: tuple[float, ...] = ()
    """Of those blocks."""
    answer_rank: int = -1
    """Rank of the first retrieved block (read or not) that has a right answer."""


@dataclass(frozen=True)
class Tokens:
    """A padded batch of token sequences: the input of a BERT."""

    ids: Array
    """int32 [..., tokens]"""
    mask: Array
    """bool [..., tokens]: true where not padding."""
    types: Array
    """int32 [..., tokens]: segment ids, 0 for the query or title and 1 for a block's body."""


@dataclass(frozen=True)
class IctBatch:
    """Sentences and the blocks that they were taken from; row i of one belongs to row i of the other."""

    query: Tokens
    """[batch, tokens]"""
    block: Tokens
    """[batch, tokens]"""
    weight: Array
    """float32 [batch]: 0 for a padding row."""


@dataclass(frozen=True)
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


@dataclass(frozen=True)
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


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class TaggerInput:
    """Sentences as the tagger reads them."""

    tokens: Tokens
    """[batch, tokens]: `[CLS] sentence [SEP]`"""
    casings: Array
    """int32 [batch, tokens]: how the word of each wordpiece is written (`data.words.CASINGS`)."""
    is_first: Array
    """bool [batch, tokens]: true at the first wordpiece of each word, where its label stands."""


@dataclass(frozen=True)
class TaggerBatch:
    """Sentences with their labels."""

    input: TaggerInput
    labels: Array
    """int32 [batch, tokens]: ids of the words' labels at their first wordpieces, 0 elsewhere."""


def register_pytrees() -> None:
    """Makes the batch types JAX pytrees; called once by the modules that run on devices."""
    import jax

    batches = (IctBatch, MaskedQueries, PretrainBatch, FinetuneBatch, TaggerInput, TaggerBatch)
    for cls in (Tokens, *batches):
        names = [f.name for f in dataclasses.fields(cls)]
        try:
            jax.tree_util.register_dataclass(cls, data_fields=names, meta_fields=[])
        except ValueError:  # registered by an earlier import
            return


def stack(rows: list) -> Any:
    """Stacks equal-shaped arrays, or records or tuples of them, along a new first axis."""
    first = rows[0]
    if isinstance(first, tuple):
        return tuple(stack(list(column)) for column in zip(*rows, strict=True))
    if dataclasses.is_dataclass(first):
        return type(first)(**{f.name: stack([getattr(row, f.name) for row in rows]) for f in dataclasses.fields(first)})
    return np.stack(rows)
