"""Whether a predicted answer is right: exact match of normal forms, or a regular expression (Guu et al. 2020, §4.2).

The rules are those of the released evaluation: references are tried one by one, and one that fits is enough.
"""

import re
import string
import unicodedata
from collections.abc import Sequence

from realm_jax.data.questions.patterns import MALFORMED, compiled
from realm_jax.records import Question

REGEX_TIMEOUT_S = 1.0
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


class BadPattern(ValueError):
    """A reference that is no regular expression, or that takes too long to try."""


def is_correct(question: Question, prediction: str, bad_patterns: set[str] | None = None) -> bool:
    """Whether a prediction is right by the rule of the question's set.

    An empty prediction is always wrong, and so is every answer to a question without references.

    Args:
        bad_patterns: gains `pattern: reason` when an expression cannot be tried and no other matches. The question then
            counts as wrong, and the caller can say so once for a whole set.
    """
    if not prediction.strip():
        return False
    if not question.is_regex:
        return exact_match(prediction, question.answers)
    try:
        return regex_match(prediction, question.answers)
    except BadPattern as error:
        if bad_patterns is not None:
            bad_patterns.add(str(error))
        return False


def normalize(answer: str) -> str:
    """NFD, lower case, without ASCII punctuation and English articles, single spaces.

    Accents and typographic quotes stay, as in the released evaluation.
    """
    text = unicodedata.normalize("NFD", answer).lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", text).split())


def without_normal_form(questions: Sequence[Question]) -> int:
    """How many questions have an answer that is articles and punctuation alone: any other such prediction equals it."""
    texts = [question.answers for question in questions if not question.is_regex]
    return sum(any(not normalize(answer) for answer in answers) for answers in texts)


def exact_match(prediction: str, answers: Sequence[str]) -> bool:
    """Whether the prediction equals an answer, both normalised."""
    wanted = normalize(prediction)
    return any(normalize(answer) == wanted for answer in answers)


def regex_match(prediction: str, patterns: Sequence[str]) -> bool:
    """Whether a pattern matches from the prediction's start (to its end it need not); the prediction is taken as it is.

    Raises:
        BadPattern: a pattern is malformed, or took over REGEX_TIMEOUT_S; raised only if no other pattern matches.
    """
    bad = None
    for pattern in patterns:
        try:
            if compiled(pattern).match(prediction, timeout=REGEX_TIMEOUT_S):
                return True
        except (*MALFORMED, TimeoutError) as error:
            bad = bad or f"{pattern[:200]!r}: {'takes over 1 s' if isinstance(error, TimeoutError) else error}"
    if bad:
        raise BadPattern(bad)
    return False
