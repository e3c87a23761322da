"""Right answers by the rules of the released evaluation, against cases worked out by hand and a second scorer."""

import itertools
import random
import re
import string
import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realm_jax.records import Question
from realm_jax.scores.answers import BadPattern, exact_match, is_correct, normalize, regex_match


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The Beatles!", "beatles"),
        ("U.S.A.", "usa"),
        ("2,000", "2000"),
        ("the", ""),
        ("An  apple a\tday", "apple day"),
        ("theatre", "theatre"),
        ("“Hi”", "“hi”"),
    ],
)
def test_normal_forms(text, normal):
    assert normalize(text) == normal


def test_accents_and_typographic_quotes_count():
    assert not exact_match("Beyonce", ["Beyoncé"]) and exact_match("beyonce\u0301", ["Beyoncé"])
    assert not exact_match("“Hi”", ["hi"]) and exact_match('"Hi"', ["no", "hi"])
    assert not exact_match("x", [])


def slow_normalize(text: str) -> str:
    """Letter by letter and word by word."""
    text = "".join(c for c in unicodedata.normalize("NFD", text).lower() if c not in string.punctuation)
    words = re.split(r"(\w+)", text)
    return " ".join("".join(" " if word in ("a", "an", "the") else word for word in words).split())


@given(st.text(st.sampled_from("aAnthe éÉ.,'’-—_ \t\nxyz12"), max_size=30))
def test_normalize_against_a_slow_one(text):
    assert normalize(text) == slow_normalize(text)
    assert normalize(normalize(text)) == slow_normalize(slow_normalize(text))


@pytest.mark.parametrize(
    ("pattern", "prediction", "matches"),
    [
        ("Jan(uary)? 2", "January 25", True),
        ("lincoln", "abraham lincoln", False),
        ("Paris", "paris, france", True),
        ("^Paris$", "first\nparis", False),
        (r"\d+ km", "12 KM", True),
    ],
)
def test_patterns_match_from_the_start(pattern, prediction, matches):
    assert regex_match(prediction, ["no such thing", pattern]) == matches


def test_bad_patterns_are_named_unless_another_matches():
    assert regex_match("paris", ["(", "Paris"])
    with pytest.raises(BadPattern, match=r"'\('"):
        regex_match("paris", ["(", "Rome"])
    with pytest.raises(BadPattern, match="takes over 1 s"):
        regex_match("a" * 60, [r"(a|aa)+[bc]"])


PIECES = [
    "the ",
    "The",
    "a",
    "An ",
    " ",
    "cat",
    "Dog",
    "Łódź",
    "ß",
    "İ",
    "é",
    "e\u0301",
    "É",
    "2,000",
    "U.S.",
    "x_y",
    "\t",
]
NOISE = ["", "", " ", ".", "!", "-", "_", '"', "“", "”", "’", "'", "the ", " a ", " An ", "\u0301", "s", "\n"]


def tiny_form(text: str) -> list[str]:
    """Words of an answer: runs of letters and digits, and what stands between them, without articles."""
    kept = "".join(c for c in unicodedata.normalize("NFD", text).lower() if not (33 <= ord(c) < 127) or c.isalnum())
    runs = ("".join(run) for _, run in itertools.groupby(kept, str.isalnum))
    return "".join(" " if run in {"a", "an", "the"} else run for run in runs).split()


def answer_and_prediction(rng: random.Random) -> tuple[Question, str, bool]:
    """A random answer, and one like it or another with noise: letters' case, punctuation, articles, accents."""
    answers = ["".join(rng.choices(PIECES, k=rng.randint(1, 4))) for _ in range(rng.randint(0, 3))]
    letters = rng.choice(answers) if answers and rng.random() < 0.8 else "".join(rng.choices(PIECES, k=2))
    prediction = rng.choice([str.upper, str.lower, str])(letters)
    at = rng.randint(0, len(prediction))
    prediction = prediction[:at] + rng.choice(NOISE) + prediction[at:]
    right = bool(prediction.strip()) and any(tiny_form(answer) == tiny_form(prediction) for answer in answers)
    return Question("q", "?", tuple(answers)), prediction, right


def patterns_and_prediction(rng: random.Random) -> tuple[Question, str, bool]:
    """Expressions that match a finite set of strings, all of which are written out."""
    patterns, language = [], []
    for _ in range(rng.randint(1, 2)):
        parts, choices = [], []
        for _ in range(rng.randint(1, 3)):
            options = [rng.choice(["ab", "B", "c d", "7", "é"]) for _ in range(rng.randint(1, 3))]
            is_optional = rng.random() < 0.3
            parts.append("(" + "|".join(options) + ")" + "?" * is_optional)
            choices.append(options + [""] * is_optional)
        patterns.append("".join(parts))
        language += ["".join(chosen) for chosen in itertools.product(*choices)]
    prediction = rng.choice(["", "", "", "x", "\n"]) + rng.choice(language) + rng.choice(["", " end", "7"])
    prediction = rng.choice([str.upper, str])(prediction)
    right = bool(prediction.strip()) and any(prediction.lower().startswith(start.lower()) for start in language)
    return Question("q", "?", tuple(patterns), is_regex=True), prediction, right


@pytest.mark.parametrize("make", [answer_and_prediction, patterns_and_prediction])
def test_five_thousand_pairs_against_a_tiny_scorer(make):
    rng, rights = random.Random(0), 0
    for _ in range(5000):
        question, prediction, right = make(rng)
        assert is_correct(question, prediction) == right, (question.answers, prediction)
        rights += right
    assert 1000 < rights < 4000


def test_nothing_is_wrong():
    assert is_correct(Question("1", "blood type?", ("A",)), "the a")  # both normal forms are empty, as released
    assert not is_correct(Question("1", "blood type?", ("A",)), "")
    assert not is_correct(Question("1", "?", (".*",), is_regex=True), " ")
    assert is_correct(Question("1", "?", (".*",), is_regex=True), "x")
    assert not is_correct(Question("1", "?"), "x") and not is_correct(Question("1", "?", is_regex=True), "x")


def test_a_pattern_that_backtracks_for_ever_is_wrong_and_reported():
    bad, start = set(), time.monotonic()
    question = Question("1", "?", (r"(x|xx)+[yz]", "("), is_regex=True)
    assert not is_correct(question, "x" * 60, bad)
    assert time.monotonic() - start < 10
    assert len(bad) == 1 and "(x|xx)+[yz]" in bad.pop()
    assert not is_correct(question, "x" * 60)
    assert is_correct(Question("1", "?", ("(", "x"), is_regex=True), "x", bad) and not bad
