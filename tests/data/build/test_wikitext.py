# ruff: noqa: E501
"""Wikitext to prose, against texts that were written down by hand."""

import re
from collections import Counter, namedtuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realm_jax.data.build import mediawiki, wikitext
from realm_jax.data.build.wikitext import plain_text
from tests.data.build import dump

Page = namedtuple("Page", "namespace redirect model", defaults=[None])
TEXTS = {title: text for title, _, text, _ in dump.PAGES}
EXPECTED = {
    "Templates": "Arnholt (founded c. 1250) is a town 5 km north of the Vann. It has 1,200 houses – most of stone. Le "
    "pont crosses the river.",
    "Tables": "The league began in 1901.\nIt ended in 1950.",
    "References": "It rained. It snowed. It froze.\nIt thawed.\nIt bloomed.",
    "Nested links": "The bridge is old. See the site or now. Others stand too.",
    "日本の川": "日本の川は長い。信濃川は367キロメートルである。水が流れる。\nΤο ποτάμι είναι μακρύ. Река длинная, а\u0301 и "
    "е\u0308 сложены. 🏞️ is a picture. עברית נכתבת מימין לשמאל.",
    "Broken markup": "Broken pages exist.\nThey stay readable. Mostly.\nStray tags go. Half a link and a besides.\n"
    "The end is near.",
    "Tags & entities": "Fish & chips cost 5 £ — or more — here.\nA2 and x2 stay. plain text.\nA quotation stands here.\n"
    "Done.",
    "Lists": "Three things are known.\nThe first is a sentence.\nThird, with an end!",
    "Same words": "Three words here. Three words here.",
    "Only a box": "",
    "Nothing": "",
}
MARKUP = re.compile(r"\{\{|\}\}|\[\[|\]\]|\{\||\|\}|</?[a-z]+[^>]*>|'''|&[a-z]+;|https?://|__[A-Z]+__")


@pytest.mark.parametrize("title", EXPECTED)
def test_prose_of_a_page(title):
    assert plain_text(TEXTS[title], ["datei"]) == EXPECTED[title]


def test_what_goes_is_counted():
    counts = Counter()
    plain_text(TEXTS["References"], counts=counts)
    plain_text(TEXTS["Lists"], counts=counts)
    assert counts == {"sections without prose": 2, "list items that are no sentence": 3}
    counts.clear()
    assert plain_text("It is old.\n\nIt was {{convert|5|km long.\n\nIt closed.", counts=counts).count("\n") == 2
    assert counts == {"lines cut at broken templates or tables": 1}


def test_links_of_a_wikis_own_namespaces_show_nothing():
    assert plain_text("A [[Datei:x.png|mini|b]] c.", ["datei"]) == "A c."
    assert plain_text("A [[Datei:x.png|b]] c.") == "A b c."


@pytest.mark.parametrize(
    "wikitext, shown",
    [
        ("{{convert|5|to|7|km}} away", "5 to 7 km away"),
        ("{{lang-fr|le mot}} is French", "le mot is French"),
        ("{{as of|2010}} it stands", "As of 2010 it stands"),
        ("[[Page#Section]] and [[a|]]", "Page and"),
        ("a (; b) and ( ) c", "a (b) and c"),
        ("a (, ; b , ) and ( , ; ) c", "a (b) and c"),
        ("a <ref never closed\nb <ref name=x / > c", "a\nb c"),
        ("a <!-- b -->c <!-- d", "a c"),
        ("x &#99999999; y", "x y"),
        ("x &#55357;&#56834; y &#55357; z", "x \N{FACE WITH TEARS OF JOY} y z"),
        ("a &amp;nbsp; b", "a b"),
    ],
)
def test_small_things(wikitext, shown):
    assert plain_text(wikitext) == shown


PIECES = [
    "{{",
    "}}",
    "[[",
    "]]",
    "|",
    "<ref>",
    "</ref>",
    "<ref name=a/>",
    "{|",
    "|}",
    "\n|-\n",
    "'''",
    "==",
    "\n",
    " a ",
    "b.",
]
PIECES += [
    "<!--",
    "-->",
    "<nowiki>",
    "</nowiki>",
    "&lt;ref&gt;",
    "File:",
    "é日",
    "<div",
    ">",
    "*",
    "http://x",
    "{{{1|}}}",
]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=30).map("".join))
def test_no_markup_is_left_of_anything(wikitext):
    text = plain_text(wikitext)
    assert not MARKUP.search(text), repr(text)
    assert all(line == line.strip() and line for line in text.split("\n") if text)


BAD = [
    "<ref>",
    "<ref ",
    "<!--",
    "<ref>a</ref ",
    "[[",
    "( ",
    "(,",
    " ,",
    "{{disambig ",
    "{{ ",
    "<a>",
    '<namespace key="1"',
]


@pytest.mark.parametrize("piece", BAD)
def test_what_is_around_the_parser_takes_linear_time(linear_time, piece):
    """The parser itself does not; `bounded` sees to that."""

    def around(text):
        wikitext._REFERENCES.sub("", wikitext._without_comments(text))
        wikitext._clean(text, Counter())
        mediawiki._not_an_article(Page(0, None), "a", 1, Page(0, None), text)
        mediawiki.hidden_prefixes(text)

    linear_time(around, piece, 50_000)


@pytest.mark.parametrize("pair", [("<a", "a>"), ("[[", "]]"), ("<<", "aa>>")])
def test_markup_within_markup_takes_linear_time(linear_time, pair):
    def clean(text):
        half = len(text) // 2
        wikitext._clean(text[:half].replace("x", pair[0]) + text[half:].replace("x", pair[1]), Counter())

    linear_time(clean, "x", 20_000)
    assert not MARKUP.search(plain_text("&lt;" * 50 + "a" + "&gt;" * 50))
