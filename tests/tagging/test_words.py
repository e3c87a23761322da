"""What a token classifier reads: words, casings and padding, by hand."""

import numpy as np
import pytest

from realm_jax.data import run_tokenizer
from realm_jax.data.assembly import SpecialIds
from realm_jax.tagging.words import CASINGS, casing_of, pad, split_words


@pytest.fixture(scope="module")
def tokenizer():
    return run_tokenizer.train(["Paris is old. U.S. Navy, NATO and McCartney's iPhone-4 of 1999 Zürich"] * 3, 120)


@pytest.mark.parametrize(
    ("word", "casing"),
    [
        *[("paris", "lower"), ("Paris", "Capitalised"), ("U", "C"), ("NATO", "CAPITALS"), ("McCartney", "miXed")],
        *[("iPhone", "miXed"), ("1999", "123"), ("B52", "a1"), (",", "?!"), ("Ünal", "Capitalised"), ("東京", "lower")],
    ],
)
def test_casings(word, casing):
    assert CASINGS[casing_of(word)] == casing


SENTENCE = "McCartney left the U.S. Navy,  in 1999"


def test_words_are_cut_at_spaces_and_punctuation(tokenizer):
    (words,) = split_words([SENTENCE], tokenizer)
    texts = [SENTENCE[a:b] for a, b in zip(words.starts, words.limits, strict=True)]
    assert texts == ["McCartney", "left", "the", "U", ".", "S", ".", "Navy", ",", "in", "1999"]
    assert words.ids == tokenizer.encode(SENTENCE, add_special_tokens=False).ids
    pieces = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    assert words.firsts == np.cumsum([0, *map(len, pieces[:-1])]).tolist()


def test_each_wordpiece_has_the_casing_of_its_word(tokenizer):
    (words,) = split_words([SENTENCE], tokenizer)
    named = [CASINGS[i] for i in words.casings]
    assert len(named) == len(words.ids) > len(words.firsts)
    assert named[0] == named[words.firsts[1] - 1] == "miXed" and named[-1] == "123"
    assert [named[first] for first in words.firsts[1:5]] == ["lower", "lower", "C", "?!"]


def test_nothing_in_a_sentence(tokenizer):
    (words,) = split_words([" "], tokenizer)
    assert words.ids == words.firsts == words.casings == []
    assert pad([words], 1, 8, SpecialIds.from_tokenizer(tokenizer)).tokens.mask.sum() == 2


def test_padding_and_cutting(tokenizer):
    special = SpecialIds.from_tokenizer(tokenizer)
    long, short = split_words([SENTENCE, "Paris"], tokenizer)
    batch = pad([long, short], 4, 8, special)
    assert batch.tokens.ids[0].tolist() == [special.cls, *long.ids[:6], special.sep]
    used = len(short.ids) + 2
    assert batch.tokens.ids[1].tolist() == [special.cls, *short.ids, special.sep, *[special.pad] * (8 - used)]
    assert batch.tokens.mask.sum(1).tolist() == [8, used, 0, 0]
    assert batch.casings[0, 1:7].tolist() == long.casings[:6]
    assert np.flatnonzero(batch.is_first[0]).tolist() == [1 + first for first in long.firsts if first < 6]
    assert np.flatnonzero(batch.is_first[1]).tolist() == [1] and not batch.is_first[2:].any()
    assert not batch.casings[1, used - 1 :].any() and not batch.casings[:, 0].any()
