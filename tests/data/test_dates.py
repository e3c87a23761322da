"""The edges of the date grammar: every day of every month, every year and century, in every form of `_PARTS`."""

import calendar
import itertools
import re

import pytest

from realm_jax.data import salient

MONTHS = list(calendar.month_name)[1:]
ABBREVIATIONS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sept", "Oct", "Nov", "Dec"]
LENGTHS = [calendar.monthrange(1940, month)[1] for month in range(1, 13)]  # a leap year
DAYS = [(month, day) for month, length in enumerate(LENGTHS) for day in range(1, length + 1)]
ORDINALS = {1: "st", 2: "nd", 3: "rd", 21: "st", 22: "nd", 23: "rd", 31: "st"}
CENTURIES = (
    "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth fourteenth fifteenth "
    "sixteenth seventeenth eighteenth nineteenth twentieth twenty-first"
).split()

DAY_FORMS = {
    "1940-05-12": lambda m, d: f"1940-{m + 1:02d}-{d:02d}",
    "12 May 1940": lambda m, d: f"{d} {MONTHS[m]} 1940",
    "12 May": lambda m, d: f"{d} {MONTHS[m]}",
    "02 May 1940": lambda m, d: f"{d:02d} {MONTHS[m]} 1940",
    "12th of May, 1940": lambda m, d: f"{ordinal(d)} of {MONTHS[m]}, 1940",
    "12 Sept. 1940": lambda m, d: f"{d} {ABBREVIATIONS[m]}{'.' if m != 4 else ''} 1940",
    "May 12, 1940": lambda m, d: f"{MONTHS[m]} {d}, 1940",
    "May 12": lambda m, d: f"{MONTHS[m]} {d}",
    "May 12th": lambda m, d: f"{MONTHS[m]} {ordinal(d)}",
    "Sept. 12, 1940": lambda m, d: f"{ABBREVIATIONS[m]}{'.' if m != 4 else ''} {d}, 1940",
    "1–12 May 1940": lambda m, d: f"1–{d} {MONTHS[m]} 1940",
    "May 1–12, 1940": lambda m, d: f"{MONTHS[m]} 1–{d}, 1940",
}
MONTH_FORMS = {
    "May 1940": lambda m: f"{MONTHS[m]} 1940",
    "May of 1940": lambda m: f"{MONTHS[m]} of 1940",
    "May, 1940": lambda m: f"{MONTHS[m]}, 1940",
    "May 440": lambda m: f"{MONTHS[m]} 440",
    "January–May 1940": lambda m: f"January–{MONTHS[m]} 1940",
}


def ordinal(day: int) -> str:
    return f"{day}{ORDINALS.get(day, 'th')}"


def assert_one_date(dates):
    """Each is found whole and alone, in a sentence and at its ends."""
    for date in dates:
        for before, after in (("It was on ", " that they met."), ("(", ")."), ("", "")):
            found = salient.find_dates(before + date + after)
            assert [(s.start, s.limit, s.type) for s in found] == [(len(before), len(before + date), "DATE")], date


@pytest.mark.parametrize("form", DAY_FORMS)
def test_every_day_of_every_month(form):
    assert len(DAYS) == 366
    assert_one_date(DAY_FORMS[form](month, day) for month, day in DAYS)


@pytest.mark.parametrize("form", MONTH_FORMS)
def test_every_month(form):
    assert_one_date(MONTH_FORMS[form](month) for month in range(12))


def test_every_year_of_four_digits_and_spans_of_years():
    assert_one_date(str(year) for year in range(1000, 2100))
    assert_one_date(f"{year}–{(year + 1) % 100:02d}" for year in range(1000, 2099))
    assert_one_date(f"{year}–{year + 7}" for year in range(1000, 2092))
    assert_one_date(f"{year}–{year + 900}" for year in range(100, 1000))


@pytest.mark.parametrize("era", ["BC", "BCE", "AD", "CE", "B.C.", "A.D."])
def test_every_year_of_an_era(era):
    assert_one_date(f"{year} {era}" for year in range(1, 1000, 3))
    assert_one_date([f"1 {era}", f"999 {era}", f"9,999 {era}", f"999,999 {era}", f"44–31 {era}"])


def test_every_season_of_a_year():
    names = ["spring", "summer", "autumn", "fall", "winter"]
    for season, link in itertools.product(names + [name.capitalize() for name in names], (" ", " of ")):
        assert_one_date([f"{season}{link}1940", f"{season}{link}1940–41"])


def test_every_century_and_millennium():
    for number, word in enumerate(CENTURIES, 1):
        names = (ordinal(number), word, word.capitalize())
        assert_one_date(f"{name} {unit}" for name in names for unit in ("century", "century BC", "millennium CE"))
        assert_one_date([f"{ordinal(number)} and {ordinal(number + 1)} centuries", f"{word}-century"])


def test_every_decade():
    assert_one_date(f"{decade}s" for decade in range(1000, 2100, 10))
    assert_one_date(f"{decade}s–{(decade + 10) % 100:02d}s" for decade in range(1000, 2100, 10))
    assert_one_date(f"{decade}s BC" for decade in range(10, 1000, 10))
    assert_one_date(f"'{decade}0s" for decade in range(10))


def test_what_no_calendar_has_is_no_whole_date():
    for month in range(12):
        impossible = [f"{day} {MONTHS[month]}" for day in (0, 32, 40, 99)]
        impossible += [f"{MONTHS[month]} {day}" for day in (0, 32, 40, 99)]
        impossible += [f"1940-{month + 1:02d}-{day}" for day in ("00", "32", "40")]
        for text in impossible:
            found = salient.find_dates(f"It was {text} there.")
            assert text not in [f"It was {text} there."[s.start : s.limit] for s in found], text
    for text in ("1940-00-12", "1940-13-12", "3940-05-12"):
        assert not any(s.limit - s.start == len(text) for s in salient.find_dates(text)), text


def test_each_part_of_the_grammar_is_covered():
    """Each has a date that no other part matches whole."""
    examples = {
        "1940-05-12": "1940-05-31",
        "12 May 1940, 12–15 May, 12th of May, 1940": "31st of May, 1940",
        "May 12, 1940 or May 12–15": "May 31, 1940",
        "May 1940 or May of 1940": "May of 1940",
        "spring 1945 or summer of 1945": "summer of 1945",
        "5th century, fifth century BC, 19th and 20th centuries": "twenty-first century",
        "1940s, 1940s–50s, 340s BC, '40s": "1940s–50s",
        "1940, 1939–45, 960–1279, 44 BC, AD 79": "960–1279",
    }
    assert examples.keys() == salient._PARTS.keys()
    for part, example in examples.items():
        whole = [name for name, pattern in salient._PARTS.items() if re.fullmatch(pattern, example)]
        assert whole == [part], example
