"""Which questions a system may have met in training, and which it has not (Lewis et al. 2021).

Their people judged 1,000 questions of each set; here a rule does. An answer was met if it is one of a training
question's, in normal form. A question was met if a training question with such an answer has nearly the same words.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from realm_jax.records import Question
from realm_jax.scores.answers import normalize

QUESTION, ANSWER, NONE = "question and answer in training", "answer in training", "neither in training"
SAME_WORDS = 0.75  # of all different words of both questions


def by_overlap(questions: Sequence[Question], train: Sequence[Question]) -> dict[str, Bool[np.ndarray, " questions"]]:
    """Divides questions by what training has of them: the question, only an answer, neither.

    Regular expressions are compared as they are written.
    """
    asked = defaultdict(set)
    for number, question in enumerate(train):
        for key in _keys(question):
            asked[key].add(number)
    words = [_words(question) for question in train]

    def group(question: Question) -> str:
        others = set().union(*(asked.get(key, ()) for key in _keys(question)))
        own = _words(question)
        if any(len(own & words[other]) >= SAME_WORDS * len(own | words[other]) for other in others):
            return QUESTION
        return ANSWER if others else NONE

    groups = np.array([group(question) for question in questions])
    return {name: groups == name for name in (QUESTION, ANSWER, NONE)}


def _keys(question: Question) -> set[str]:
    """The answers as they are compared; one of articles and punctuation alone is none."""
    return set(question.answers) if question.is_regex else {normalize(answer) for answer in question.answers} - {""}


def _words(question: Question) -> set[str]:
    return set(normalize(question.text).split())
