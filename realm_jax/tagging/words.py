"""Sentences as a token classifier reads them: wordpieces, how their words are written, where each word begins.

Words are what BERT's own splitter makes, in training data as in running text: it cuts at white space and around each
punctuation mark. Most vocabularies are lower-cased, but capitals say most about names: how a word is written is kept
beside its wordpieces, as one of `CASINGS`.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tokenizers import Encoding, Tokenizer

from realm_jax.batches import TaggerInput, Tokens, stack
from realm_jax.data.assembly import SpecialIds, concatenate

CASINGS = ("none", "lower", "Capitalised", "C", "CAPITALS", "miXed", "123", "a1", "?!")
"""How a word is written: `none` is for special tokens and padding, five are for letters, then digits, both, neither."""


@dataclass(frozen=True)
class Words:
    """A sentence's words. The first two fields have an entry for each wordpiece, the others one for each word."""

    ids: list[int]
    """Wordpieces of the sentence."""
    casings: list[int]
    """How the word of each wordpiece is written, as a place in `CASINGS`."""
    firsts: list[int]
    """First wordpiece of each word."""
    starts: list[int]
    """First character of each word."""
    limits: list[int]
    """One past the last character of each word."""


def split_words(sentences: Sequence[str], tokenizer: Tokenizer) -> list[Words]:
    """The words of some sentences.

    Args:
        tokenizer: a BERT's, without truncation and padding.
    """
    encodings = tokenizer.encode_batch(list(sentences), add_special_tokens=False)
    return [_words(sentence, encoding) for sentence, encoding in zip(sentences, encodings, strict=True)]


def _words(sentence: str, encoding: Encoding) -> Words:
    firsts, starts, limits = [], [], []
    last = -1
    for at, (word, (start, limit)) in enumerate(zip(encoding.word_ids, encoding.offsets, strict=True)):
        if word != last:
            firsts.append(at)
            starts.append(start)
            limits.append(limit)
            last = word
        limits[-1] = limit
    casings: list[int] = []
    for start, limit, width in zip(starts, limits, np.diff([*firsts, len(encoding)]), strict=True):
        casings += [casing_of(sentence[start:limit])] * width
    return Words(encoding.ids, casings, firsts, starts, limits)


@functools.lru_cache(1 << 16)
def casing_of(word: str) -> int:
    """How a word is written, as a place in `CASINGS`."""
    name = "?!"
    if any(c.isdigit() for c in word):
        name = "a1" if any(c.isalpha() for c in word) else "123"
    elif word.islower():
        name = "lower"
    elif word.isupper():
        name = "CAPITALS" if len(word) > 1 else "C"
    elif word.istitle():
        name = "Capitalised"
    elif any(c.isalpha() for c in word):
        name = "miXed" if word.lower() != word else "lower"  # scripts without capitals count as lower
    return CASINGS.index(name)


def pad(sentences: Sequence[Words], rows: int, length: int, special: SpecialIds) -> TaggerInput:
    """`[CLS] sentence [SEP]`, cut to `length` and padded to [rows, length]; rows beyond the sentences are padding."""
    blank = Tokens(np.full(length, special.pad, np.int32), np.zeros(length, bool), np.zeros(length, np.int32))
    full = [concatenate([words.ids], special, length) for words in sentences]
    casings = np.zeros((rows, length), np.int32)
    is_first = np.zeros((rows, length), bool)
    for row, words in enumerate(sentences):
        used = min(len(words.ids), length - 2)
        casings[row, 1 : used + 1] = words.casings[:used]
        is_first[row, [1 + first for first in words.firsts if first < used]] = True
    return TaggerInput(stack([*full, *[blank] * (rows - len(full))]), casings, is_first)
