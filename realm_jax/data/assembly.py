"""Token assembly: the one place where wordpieces become the models' inputs, with their special tokens and segments.

    a query, a question, a sentence          [CLS] query [SEP]
    a block, for the embedder                [CLS] title [SEP] body [SEP]
    a query with a block, for the encoder    [CLS] query [SEP] body [SEP]
    a query with the null block              [CLS] query [SEP] [SEP]

What follows the first [SEP] has segment id 1; the title stays out of the encoder's input. Many blocks at once are
gathered by `Corpus.embedder_tokens`, from memory maps. Sequences are cut to their length, then padded to it. Which
wordpieces a query hides is chosen in `masking`, which blocks it meets in `index`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int, Int32, UInt16
from numpy.typing import ArrayLike
from tokenizers import Tokenizer

from realm_jax.batches import MaskedQueries, PretrainBatch, Tokens
from realm_jax.config import ConfigError
from realm_jax.data.corpus import Corpus


@dataclass(frozen=True)
class SpecialIds:
    """Ids of the vocabulary's special tokens."""

    cls: int
    sep: int
    mask: int
    pad: int

    @classmethod
    def from_tokenizer(cls, tokenizer: Tokenizer) -> "SpecialIds":
        """Looks up [CLS], [SEP], [MASK] and [PAD]. Raises ConfigError if one is missing."""
        ids = {name: tokenizer.token_to_id(f"[{name.upper()}]") for name in ("cls", "sep", "mask", "pad")}
        missing = [f"[{name.upper()}]" for name, token_id in ids.items() if token_id is None]
        if missing:
            raise ConfigError(f"the tokenizer has no {', '.join(missing)}: REALM needs a BERT vocabulary with it")
        return cls(**ids)


def concatenate(parts: Sequence[ArrayLike], special: SpecialIds, length: int) -> Tokens:
    """Assembles `[CLS] part [SEP] part [SEP]`, one sequence, cut and padded to `length`.

    Args:
        parts: int [tokens] each, one or two; the second has segment id 1. The first is cut last.

    Returns:
        [length].
    """
    ids, segments = [special.cls], [0]
    for segment, part in enumerate(parts):
        room = max(0, length - len(ids) - (len(parts) - segment))
        ids += [*np.asarray(part[:room]).tolist(), special.sep]
        segments += [segment] * (len(ids) - len(segments))
    padding = length - len(ids)
    return Tokens(
        np.array(ids + [special.pad] * padding, np.int32),
        np.arange(length) < len(ids),
        np.array(segments + [0] * padding, np.int32),
    )


def masked_query(
    tokens: UInt16[np.ndarray, " wordpieces"],
    masked: Int[np.ndarray, " masked"],
    query_len_tokens: int,
    max_masks: int,
    ids: SpecialIds,
) -> tuple[Tokens, Int32[np.ndarray, " max_masks"], Int32[np.ndarray, " max_masks"], Float32[np.ndarray, " max_masks"]]:
    """Builds the query `[CLS] masked sentence [SEP]` and what is to be predicted in it.

    Args:
        tokens: wordpieces of the sentence; those that do not fit in the query are cut.
        masked: sorted, one at least: the positions, from 0, that become [MASK]; the first max_masks are predicted.

    Returns:
        Tokens of length query_len_tokens; mask_positions, in the query, where [CLS] is 0; mask_targets, the wordpieces
        that were there; mask_weights, 1 where used. Unused slots are 0.

    Raises:
        ValueError: nothing is masked, or the last masked position does not fit in query_len_tokens - 2.
    """
    body = tokens[: query_len_tokens - 2].astype(np.int32)
    if len(masked) == 0 or masked[-1] >= len(body):
        raise ValueError(f"masked positions {list(masked)} do not lie in the {len(body)} wordpieces of the query")
    predicted = masked[:max_masks]
    positions, targets = np.zeros((2, max_masks), np.int32)
    weights = np.zeros(max_masks, np.float32)
    positions[: len(predicted)] = predicted + 1
    targets[: len(predicted)] = body[predicted]
    weights[: len(predicted)] = 1
    body[masked] = ids.mask
    return concatenate([body], ids, query_len_tokens), positions, targets, weights


def joint_tokens(query: Tokens, blocks: Tokens, length: int) -> Tokens:
    """Assembles `[CLS] query [SEP] body [SEP]` of each query with each of its blocks; the title is left out.

    Args:
        query: [batch, tokens].
        blocks: [batch, candidates, tokens], the embedder's input, whose body has segment id 1.

    Returns:
        [batch, candidates, length].
    """
    query_len = query.mask.sum(-1)[:, None, None]
    body_len = (blocks.types * blocks.mask).sum(-1)[..., None]  # with its [SEP]
    body_start = blocks.mask.sum(-1)[..., None] - body_len
    at = np.arange(length)
    mask = at < query_len + body_len
    in_query = np.broadcast_to(at < query_len, mask.shape)
    from_query = query.ids[:, None, np.minimum(at, query.ids.shape[-1] - 1)]
    from_block = np.take_along_axis(blocks.ids, np.clip(at - query_len + body_start, 0, blocks.ids.shape[-1] - 1), -1)
    ids = np.where(in_query, from_query, from_block) * mask
    return Tokens(ids.astype(np.int32), mask, (mask & ~in_query).astype(np.int32))


def body_mask(joint: Tokens) -> Bool[np.ndarray, "*batch tokens"]:
    """Marks the wordpieces of the body: the second segment without its [SEP]."""
    limit = joint.mask.sum(-1, keepdims=True) - 1
    return (joint.types == 1) & (np.arange(joint.ids.shape[-1]) < limit)


def with_masks(query: Tokens, masks: int, special: SpecialIds) -> tuple[Tokens, Int32[np.ndarray, "batch masks"]]:
    """Assembles `[CLS] query [MASK]… [SEP] [SEP]`: `masks` masks after each query, joined with the null block.

    Args:
        query: [batch, tokens].

    Returns:
        [batch, tokens + masks + 1], and the masks' places.
    """
    length = query.ids.shape[-1]
    end = query.mask.sum(-1, keepdims=True) - 1  # where the query's [SEP] is
    at = np.arange(length + masks + 1)
    ids = np.pad(query.ids, ((0, 0), (0, masks + 1)))
    ids = np.where((at >= end) & (at < end + masks), special.mask, ids)
    ids = np.where((at >= end + masks) & (at < end + masks + 2), special.sep, ids)
    mask = at < end + masks + 2
    types = (at == end + masks + 1).astype(np.int32)
    joint = Tokens(np.where(mask, ids, special.pad).astype(np.int32), mask, np.broadcast_to(types, ids.shape))
    return joint, (end + np.arange(masks)).astype(np.int32)


def with_candidates(
    queries: MaskedQueries,
    candidates: Int[np.ndarray, "batch found"],
    knowledge: Corpus,
    shares: int,
) -> PretrainBatch:
    """Joins queries with their retrieved blocks; the null block becomes candidate 0.

    Args:
        candidates: block ordinals; -1 where there is none.
        shares: into how many the batch will be split, over the devices and into micro-batches.
    """
    blocks = knowledge.embedder_tokens(candidates, knowledge.block_len_tokens)
    null = knowledge.embedder_tokens(np.full((len(candidates), 1), -1), 3)
    null_joint = joint_tokens(queries.query, null, queries.query.ids.shape[-1] + 1)
    has_null = np.ones((len(candidates), 1), bool)
    return PretrainBatch(
        query=queries.query,
        blocks=blocks,
        joint=joint_tokens(queries.query, blocks, queries.query.ids.shape[-1] + knowledge.block_len_tokens),
        null_joint=Tokens(null_joint.ids[:, 0], null_joint.mask[:, 0], null_joint.types[:, 0]),
        candidate_mask=np.concatenate([has_null, candidates >= 0], axis=1),
        mask_positions=queries.mask_positions,
        mask_targets=queries.mask_targets,
        mask_weights=queries.mask_weights,
        mask_slots=mask_slots(queries.mask_weights, shares),
    )


def mask_slots(
    mask_weights: Float32[np.ndarray, "batch masks"], shares: int, used: int = 0
) -> Int32[np.ndarray, " slots"]:
    """Lists the mask slots in use, [shares * used], as `PretrainBatch.mask_slots` says.

    Args:
        used: how many each share has, enough for its predictions; 0 takes one of few numbers, since each is compiled.
    """
    is_used = mask_weights.reshape(shares, -1) > 0
    grid, masks = is_used.shape[1], mask_weights.shape[1]
    rows = grid // masks
    most = int(is_used.sum(1).max())
    used = used or next(size for size in (2 * rows, 4 * rows, grid) if size >= most)
    slots = np.full((shares, used), grid, np.int32)
    for row, share in enumerate(is_used):
        real = np.flatnonzero(share)
        slots[row, : len(real)] = real
    return slots.reshape(-1)
