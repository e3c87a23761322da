"""Which questions training had, on cases that a reader can decide."""

import pytest

from realm_jax.eval.overlap import ANSWER, NONE, QUESTION, by_overlap
from realm_jax.records import Question

TRAIN = [
    Question("1", "Who wrote the play Hamlet?", ("William Shakespeare", "Shakespeare")),
    Question("2", "when did the first world war end", ("1918", "the 11th")),
    Question("3", "How high is Everest?", (r"8[,.]?848",), is_regex=True),
]


@pytest.mark.parametrize(
    ("text", "answers", "group"),
    [
        ("who wrote Hamlet, the play", ("shakespeare.",), QUESTION),  # case, order, articles and punctuation aside
        ("who wrote the play Hamlet?", ("Marlowe",), NONE),  # another answer
        ("Who wrote the play Macbeth?", ("Shakespeare",), ANSWER),  # 4 of 6 words, and no more, are in both
        ("when did the second world war end", ("1945", "11th"), ANSWER),  # an answer of several is enough
        ("when did the first world war end?", ("1918",), QUESTION),
        ("what is that", ("The", "!"), NONE),  # nothing is left of these answers
    ],
)
def test_of_texts(text, answers, group):
    found = by_overlap([Question("x", text, answers)], TRAIN)
    assert [name for name, inside in found.items() if inside[0]] == [group]


def test_expressions_are_compared_as_they_are_written():
    same, other = (
        Question("x", "How high is Everest?", (pattern,), is_regex=True) for pattern in (r"8[,.]?848", "8848")
    )
    found = by_overlap([same, other], TRAIN)
    assert {name: inside.tolist() for name, inside in found.items()} == {
        QUESTION: [True, False],
        ANSWER: [False, False],
        NONE: [False, True],
    }
