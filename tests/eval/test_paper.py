"""The published numbers that are shown, and that they never stand without their difference to ours."""

import pytest

from realm_jax.eval import paper


def test_numbers_of_the_paper():
    by_name = {row.system: row.exact_match for row in paper.published("nq")}
    assert by_name["REALM, pre-trained on Wikipedia"] == 39.2 and by_name["ORQA"] == 33.3
    assert {row.system: row.exact_match for row in paper.published("trivia")}["ORQA"] == 45.0
    trec = {row.system: row.exact_match for row in paper.published("ct")}
    assert trec["REALM, pre-trained on CC-News"] == 42.9 and "DPR" not in trec  # known only from memory
    assert all(
        0 < row.exact_match < 100 and row.source for key in ("nq", "wq", "ct", "tqa") for row in paper.published(key)
    )


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("questions/nq_open_test_part.jsonl", "nq"),
        ("natural_questions_open", "nq"),
        ("web_questions", "wq"),
        ("webquestions_test.jsonl.gz", "wq"),
        ("CuratedTrec", "ct"),
        ("ct.jsonl", "ct"),
    ],
)
def test_names_of_a_set(name, key):
    assert paper.published(name) == paper.published(key) != ()


@pytest.mark.parametrize("name", ["squad_open", "cloze", "ctx.jsonl", "nqx"])
def test_other_sets_have_no_published_numbers(name):
    assert paper.published(name) == ()


@pytest.mark.parametrize(
    ("split", "blocks", "questions", "says"),
    [
        ("test", 13_400_000, 3610, "comparable only if my corpus is the full Wikipedia"),
        ("", None, 3610, "comparable only if"),
        ("test", 20_000, 3610, "not comparable: another corpus."),
        ("dev", 13_400_000, 3610, "not comparable: other questions."),
        ("test", 13_400_000, 500, "not comparable: other questions."),
        ("dev", 1, 5, "not comparable: another corpus and other questions."),
    ],
)
def test_the_difference_is_said(split, blocks, questions, says):
    text = paper.caveat("nq", split, "my corpus", blocks, questions)
    assert says in text and "my corpus" in text and "full Wikipedia (13M blocks)" in text
    assert blocks is None or f"{blocks:,} blocks" in text
