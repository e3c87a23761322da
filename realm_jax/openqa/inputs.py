"""From questions and blocks to the models' inputs. Questions are tokenised once; blocks come as they were stored."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int
from tokenizers import Tokenizer

from realm_jax.batches import Tokens, stack
from realm_jax.data.assembly import SpecialIds, body_mask, concatenate, joint_tokens
from realm_jax.data.corpus import Corpus
from realm_jax.records import Question


def question_tokens(questions: Sequence[Question], tokenizer: Tokenizer, special: SpecialIds, length: int) -> Tokens:
    """`[CLS] question [SEP]` of every question, [questions, length]; longer ones are cut."""
    encodings = tokenizer.encode_batch([question.text for question in questions], add_special_tokens=False)
    return stack([concatenate([encoding.ids], special, length) for encoding in encodings])


def block_tokens(blocks: Sequence[tuple[str, str]], tokenizer: Tokenizer, special: SpecialIds, length: int) -> Tokens:
    """`[CLS] title [SEP] body [SEP]` of every (title, text), [blocks, length], as `Corpus.embedder_tokens` has them.

    The body (then the title) is cut where `length` is too short.
    """
    titles, bodies = (
        tokenizer.encode_batch(list(part), add_special_tokens=False) for part in zip(*blocks, strict=True)
    )
    pairs = [[np.array(part.ids, np.int64) for part in pair] for pair in zip(titles, bodies, strict=True)]
    return stack([concatenate(pair, special, length) for pair in pairs])


def rows(tokens: Tokens, chosen: Int[np.ndarray, "*rows"]) -> Tokens:
    """Some sequences of a batch, or one."""
    return Tokens(tokens.ids[chosen], tokens.mask[chosen], tokens.types[chosen])


def reader_inputs(
    query: Tokens, blocks: Int[np.ndarray, "batch blocks"], corpus: Corpus, length: int
) -> tuple[Tokens, Bool[np.ndarray, "batch blocks tokens"]]:
    """`[CLS] question [SEP] body [SEP]` of each question with each of its blocks, and the places of the bodies.

    Args:
        query: [batch, tokens].
        blocks: ordinals; -1 has an empty body.
        length: of the result; must hold the longest question and body.
    """
    joint = joint_tokens(query, corpus.embedder_tokens(blocks, corpus.block_len_tokens), length)
    return joint, body_mask(joint)


def span_of_text(corpus: Corpus, tokenizer: Tokenizer, block: int, first: int, last: int) -> tuple[int, int]:
    """Characters [start, limit) of a block's text that its body's wordpieces first..last were made from.

    Sentences were tokenised one by one when the corpus was built; so they are here.
    """
    text = corpus.block(block).text.encode()
    start = limit = 0
    for sentence in corpus.sentences(block):
        from_token, to_token = int(sentence["token_start"]), int(sentence["token_limit"])
        if to_token <= first or from_token > last:
            continue
        before = len(text[: int(sentence["byte_start"])].decode())
        part = text[int(sentence["byte_start"]) : int(sentence["byte_limit"])].decode()
        offsets = tokenizer.encode(part, add_special_tokens=False).offsets
        if from_token <= first:
            start = before + offsets[first - from_token][0]
        limit = before + offsets[min(last, to_token - 1) - from_token][1]
    return start, limit
