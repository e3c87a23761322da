"""What is read of a sentence as people type it."""

import numpy as np
import pytest
from tokenizers import Tokenizer

from realm_jax.data.assembly import SpecialIds
from realm_jax.data.run_tokenizer import train
from realm_jax.inference.results import Refused
from realm_jax.inference.sentence import literal_tokenizer, read_sentence

LENGTH = 12


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train(["the old harbour was closed in winter and opened in spring again [SEP]"] * 3, 120)


@pytest.fixture
def read(tokenizer):
    special = SpecialIds.from_tokenizer(tokenizer)
    return lambda text: read_sentence(text, literal_tokenizer(tokenizer), special, LENGTH)


def test_a_sentence_is_read_as_the_tokenizer_reads_it(read, tokenizer):
    text = "The old [MASK] was closed in [MASK]."
    found = read(text)
    assert found.ids == tokenizer.encode(text, add_special_tokens=False).ids
    assert found.parts == ["The old ", " was closed in ", "."]
    assert [found.ids[i] for i in found.masked] == [tokenizer.token_to_id("[MASK]")] * 2


@pytest.mark.parametrize("text", ["", "  \n", "no blank here", "[MASKED] [ MASK ]"])
def test_without_a_blank_it_is_refused(read, text):
    with pytest.raises(Refused, match=r"\[MASK\]"):
        read(text)


def test_other_special_tokens_are_plain_text(read, tokenizer):
    found = read("[CLS] [mask] [SEP]")
    special = {tokenizer.token_to_id(name) for name in ("[CLS]", "[SEP]", "[PAD]")}
    assert not special & set(found.ids) and len(found.masked) == 1


def test_a_long_text_is_read_from_its_beginning(read):
    found = read("[MASK] " + "old " * 50)
    assert len(found.ids) == LENGTH - 2 and found.masked == [0]
    assert found.parts == ["", " old" * (LENGTH - 3)]
    assert "10 of 51" in found.notes[0] and "first" in found.notes[0]


@pytest.mark.parametrize("after", [0, 2, 40])
def test_a_late_blank_is_read_with_what_is_around_it(read, tokenizer, after):
    found = read("spring " * 2000 + "winter [MASK]" + " closed" * after + " [MASK]" * (after == 0))
    assert len(found.ids) == LENGTH - 2
    assert found.parts[0].endswith("spring winter ")
    ids = tokenizer.encode("[MASK]".join(found.parts), add_special_tokens=False).ids
    assert ids == found.ids  # what is shown is what was read
    assert found.masked == np.flatnonzero(np.array(ids) == tokenizer.token_to_id("[MASK]")).tolist()
    assert "around" in found.notes[0]


@pytest.mark.parametrize("text", ["[MASK] 日本の首都", "[MASK] عاصمة مصر", "🙂 [MASK] 🙂"])
def test_a_language_that_it_never_saw_is_noted(read, text):
    assert "vocabulary lacks" in read(text).notes[0]
