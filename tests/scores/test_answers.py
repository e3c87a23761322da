"""Right answers by the rules of the released evaluation, against cases worked out by hand and a second scorer."""

import re
import string
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realm_jax.scores.answers import BadPattern, exact_match, normalize, regex_match


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
