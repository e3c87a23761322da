"""Inverse cloze examples against the text they were cut from."""

import numpy as np
import pytest

from realm_jax.config import ConfigError
from realm_jax.data.ict_examples import IctExamples
from realm_jax.data.prepare import open_prepared

QUERY_LEN = 24


@pytest.fixture(scope="module")
def data(tiny_run):
    return open_prepared(tiny_run)


def examples(data, *, heldout=0.0, rate=0.9):
    return IctExamples(data.text, data.special, heldout, QUERY_LEN, rate)


def parts(tokens, special):
    """The pieces of `[CLS] a [SEP] b [SEP]`, by reading."""
    ids = tokens.ids[tokens.mask].tolist()
    assert ids[0] == special.cls and ids[-1] == special.sep
    out, rest = [], ids[1:]
    while rest:
        at = rest.index(special.sep)
        out.append(rest[:at])
        rest = rest[at + 1 :]
    return out


def test_sentence_and_rest_make_up_the_block(data):
    removed = 0
    examples_ = examples(data)
    rng = np.random.default_rng(0)
    for trial in range(400):
        number = trial % len(examples_)
        index = int(examples_.blocks[number])
        example = examples_.example(number, rng)
        body = data.text.body(index).tolist()
        sentences = [body[s["token_start"] : s["token_limit"]] for s in data.text.sentences(index)]
        (query,) = parts(example.query, data.special)
        title, rest = parts(example.block, data.special)
        places = [i for i, s in enumerate(sentences) if s[: QUERY_LEN - 2] == query]
        assert places and title == data.text.title(index).tolist()
        without = [sum((s for j, s in enumerate(sentences) if j != i), []) for i in places]
        assert rest == body or rest in without
        removed += rest != body
        assert example.block.types[example.block.mask].tolist() == [0] * (len(title) + 2) + [1] * (len(rest) + 1)
        assert example.weight == 1
    assert 0.84 < removed / 400 < 0.95  # 0.9 with four standard errors


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_removal_rate_is_obeyed_at_its_ends(data, rate):
    examples_ = examples(data, rate=rate)
    rng = np.random.default_rng(1)
    for number in range(50):
        block = examples_.example(number, rng).block
        whole = data.text.embedder_tokens(np.array([examples_.blocks[number]]), data.text.block_len_tokens)
        assert (block.mask.sum() == whole.mask.sum()) == (rate == 0.0)


def test_blocks_held_out_or_of_one_sentence_give_no_example(data):
    examples_ = examples(data, heldout=0.3)
    heldout = data.text.heldout(0.3)
    sentences = np.array([len(data.text.sentences(i)) for i in range(data.text.num_blocks)])
    expected = np.flatnonzero(~heldout & (sentences >= 2))
    np.testing.assert_array_equal(examples_.blocks, expected)
    assert 0 < heldout.sum() < len(heldout)
    assert examples_.skipped["held out"] == heldout.sum()
    assert sum(examples_.skipped.values()) + len(examples_) == data.text.num_blocks


def test_a_corpus_without_examples_is_an_error(data):
    with pytest.raises(ConfigError, match="no block has two sentences"):
        examples(data, heldout=0.9999999)
