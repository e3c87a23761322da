"""Inputs of reader and query tower against lists put together by hand; answers' texts against the whole block's."""

import numpy as np
import pytest

from realm_jax.batches import Tokens
from realm_jax.data.assembly import SpecialIds
from realm_jax.data.corpus_writer import build
from realm_jax.models.reader import spans
from realm_jax.openqa.inputs import question_tokens, reader_inputs, rows, span_of_text
from realm_jax.records import Question, Record

TEXTS = ["art of the party", "Zoë?", "日本 🙂 don't", "a" * 30, "the the the the the the the the the the the the"]
LENGTH = 12


@pytest.fixture(scope="module")
def special(pieces_tokenizer):
    return SpecialIds.from_tokenizer(pieces_tokenizer)


@pytest.fixture(scope="module")
def query(pieces_tokenizer, special) -> Tokens:
    questions = [Question(str(i), text, ("x",)) for i, text in enumerate(TEXTS)]
    return question_tokens(questions, pieces_tokenizer, special, LENGTH)


def wordpieces(tokenizer, text) -> list[int]:
    return tokenizer.encode(text, add_special_tokens=False).ids


def padded(ids: list[int], length: int) -> list[int]:
    return ids + [0] * (length - len(ids))


def test_questions(query, pieces_tokenizer, special):
    for row, text in enumerate(TEXTS):
        ids = [special.cls, *wordpieces(pieces_tokenizer, text)[: LENGTH - 2], special.sep]
        assert query.ids[row].tolist() == padded(ids, LENGTH)
        assert query.mask[row].tolist() == [i < len(ids) for i in range(LENGTH)]
        assert not query.types[row].any()
    assert query.mask.all(-1).tolist() == [False, False, False, True, True]
    some = rows(query, np.array([3, 0, 3]))
    assert some.ids.tolist() == [query.ids[i].tolist() for i in (3, 0, 3)] and some.mask.shape == (3, LENGTH)


def test_reader_inputs_are_question_and_body_without_the_title(query, random_corpora, special):
    corpus = random_corpora[2]
    length = LENGTH + corpus.block_len_tokens
    rng = np.random.default_rng(0)
    blocks = rng.permutation(corpus.num_blocks)[: 3 * len(TEXTS)].reshape(len(TEXTS), 3)
    blocks[1, 2] = blocks[4, 0] = -1
    joint, in_body = reader_inputs(query, blocks, corpus, length)
    for (row, column), block in np.ndenumerate(blocks):
        question = query.ids[row][query.mask[row]].tolist()
        body = corpus.body(block).tolist() if block >= 0 else []
        ids = [*question, *body, special.sep]
        assert joint.ids[row, column].tolist() == padded(ids, length)
        assert joint.mask[row, column].sum() == len(ids) and joint.mask[row, column, : len(ids)].all()
        types = [0] * len(question) + [1] * (len(body) + 1)
        assert joint.types[row, column].tolist() == padded(types, length)
        expected = np.zeros(length, bool)
        expected[len(question) : len(question) + len(body)] = True
        np.testing.assert_array_equal(in_body[row, column], expected)
    assert joint.ids.dtype == joint.types.dtype == np.int32 and in_body.dtype == bool


def test_the_longest_question_and_body_fit_and_a_body_that_fills_the_input_has_a_last_sep(query, random_corpora):
    corpus = random_corpora[0]
    longest = int(np.argmax([len(corpus.body(block)) for block in range(corpus.num_blocks)]))
    question = rows(query, np.array([4]))
    joint, in_body = reader_inputs(question, np.array([[longest]]), corpus, LENGTH + corpus.block_len_tokens)
    assert in_body.sum() == len(corpus.body(longest))
    full = int(joint.mask.sum())
    exact, its_body = reader_inputs(question, np.array([[longest]]), corpus, full)
    np.testing.assert_array_equal(exact.ids, joint.ids[..., :full])
    np.testing.assert_array_equal(its_body, in_body[..., :full])
    assert exact.mask.all() and not its_body[0, 0, -1]


def test_every_span_gives_the_text_it_was_made_from(random_corpora, pieces_tokenizer):
    """The wordpieces of the whole text at once say where each begins and ends."""
    checked, several, begun = 0, 0, set()
    for corpus in random_corpora:
        for block in range(0, corpus.num_blocks, 3):
            text = corpus.block(block).text
            offsets = pieces_tokenizer.encode(text, add_special_tokens=False).offsets[: len(corpus.body(block))]
            for first in range(len(offsets)):
                for last in range(first, min(first + 10, len(offsets))):
                    start, limit = span_of_text(corpus, pieces_tokenizer, block, first, last)
                    assert (start, limit) == (offsets[first][0], offsets[last][1])
                    checked += 1
                    several += ". " in text[start:limit]
                begun.add(text[slice(*offsets[first])])
    assert checked > 5000 and several > 500
    assert {"日", "“", "🙂"} <= begun


def test_spans_keep_case_accents_and_signs(tmp_path, pieces_tokenizer):
    text = "Zoë's PARTY. 🙂 “Naïve” 日本!"
    corpus = build(
        [Record("1", "Title", text)],
        tmp_path / "c",
        tokenizer=pieces_tokenizer,
        tag=lambda sentences, title: [[] for _ in sentences],
        block_len_tokens=64,
        description={"source": "s", "fingerprint": "f", "tagger": "t"},
    )
    pieces = [pieces_tokenizer.id_to_token(i) for i in corpus.body(0).tolist()]
    assert pieces == "zoe ' s party . 🙂 “ n ##a ##i ##v ##e ” 日 本 [UNK]".split()

    def between(first, last):
        return text[slice(*span_of_text(corpus, pieces_tokenizer, 0, first, last))]

    assert between(0, 0) == "Zoë" and between(0, 3) == "Zoë's PARTY" and between(3, 5) == "PARTY. 🙂"
    assert between(6, 12) == "“Naïve”" and between(9, 10) == "ïv" and between(13, 15) == "日本!"


@pytest.mark.parametrize(("length", "max_width", "count"), [(320, 10, 3155), (10, 3, 27), (3, 10, 6), (1, 1, 1)])
def test_number_of_spans(length, max_width, count):
    starts, ends = spans(length, max_width)
    pairs = list(zip(starts.tolist(), ends.tolist(), strict=True))
    assert len(pairs) == count
    assert sorted(pairs) == [(i, j) for i in range(length) for j in range(i, min(length, i + max_width))]
