"""Results as they are shown: every text from outside is escaped in HTML, and lines of a terminal are short."""

import html.parser
import re

import pytest

from realm_jax.inference import fragments
from realm_jax.inference.answered import Answered, SpanAnswer
from realm_jax.inference.filled import Filled, Guess, ReadBlock
from realm_jax.inference.results import WIDTH, Changed, Hit, IndexVersion, Results, Source
from realm_jax.serve.page import added_html, status_html

EVIL = """<script>alert("1")</script><img src=x onerror='x'>&amp;"""
SOURCE = Source(EVIL, 100, 0.0, 1234, EVIL, 20)
CHANGED = Changed((EVIL,), (), 1, EVIL, 0.1)


class Tags(html.parser.HTMLParser):
    """Counts what a browser would take as elements and text."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.open, self.text = [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def filled(parts=("The ", " was."), wordpieces=("harbour",), source=SOURCE) -> Filled:
    blanks = tuple((Guess(piece, 0.5), Guess("other", 0.25)) for piece in wordpieces)
    guesses = tuple(Guess(EVIL, 0.125) for _ in wordpieces)
    blocks = ReadBlock(3, EVIL, EVIL, EVIL, 0.9, guesses), ReadBlock(-1, "", "", "", 0.1, guesses)
    return Filled(tuple(parts), blanks, 0.1, blocks, guesses, (EVIL,), source)


@pytest.mark.parametrize(
    "text",
    [
        filled((EVIL, EVIL), (EVIL,)).html(),
        Answered(EVIL, (SpanAnswer(EVIL, 0.5, 1, EVIL, EVIL, EVIL, (3, 9), 1.0),) * 2, (EVIL,), SOURCE).html(),
        fragments.refused(EVIL),
        added_html(CHANGED, EVIL),
        CHANGED._repr_html_(),
        status_html(EVIL, SOURCE, SOURCE, EVIL),
        Results([Hit(3, EVIL, EVIL, EVIL, 1.0)])._repr_html_(),
        Results([IndexVersion(EVIL, 1, 2, 0.0, 3.0, {})])._repr_html_(),
    ],
    ids=["filled", "answered", "refused", "added", "changed", "status", "hits", "versions"],
)
def test_texts_are_escaped(text):
    found = Tags(text)
    assert not {"script", "img"} & set(found.tags) and not found.open
    assert "<script>" in found.text or "<scr" in found.text


def test_a_filled_sentence_says_all():
    found = Tags(filled(source=Source("step-9", 80, 0.0, 1234, "pretrain, step 100", 20)).html())
    assert "The harbour was." in found.text and found.tags.count("mark") == 1
    for said in ("50.0%", "90.0%", "p(null|x) is 10.0%", "null block", "age 20 steps", "step-9", "1,234 blocks"):
        assert said in found.text


def test_wordpieces_that_continue_a_word_are_joined():
    text = filled(("The ", " ", "."), ("har", "##bour"))
    assert "The harbour." in Tags(text.html()).text and text.text == "The [har][bour]."


def test_an_answer_is_marked_in_its_block():
    answer = SpanAnswer("Maud", 0.25, 7, "id", "Bridge", "by Queen Maud.", (9, 13), 2.0)
    found = Answered("Who?", (answer,), ()).html()
    assert "by Queen <mark>Maud</mark>." in found and "25.0%" in found
    assert "No block" in Answered("Who?", (), ()).html()


def test_in_a_terminal_a_result_is_a_few_short_lines():
    hits = Results([Hit(3, "larks", "Lark House", "It was built in 1911. " * 40, 4.5)] * 2)
    answer = SpanAnswer("Maud", 0.25, 7, "id", "Bridge", "by Queen Maud. " * 40, (9, 13), 2.0)
    answered = Answered("Who?", (answer,), ("note",), Source("step-9", 80, 0.0, 1234, "pretrain, step 100", 20))
    for found, count, said in ((hits, 2, "Lark House: It was"), (answered, 4, "25.0%  Maud"), (filled(), 8, "harbour")):
        lines = repr(found).splitlines()
        assert str(found) == repr(found) and len(lines) == count and any(said in line for line in lines)
        assert all(len(line) <= WIDTH for line in lines if EVIL not in line)
    assert repr(Results()) == "nothing was found"
    assert repr(hits[:1]) == repr(hits[0]) and list(hits[:1]) == [hits[0]]


def test_alone_it_brings_its_style_and_every_colour():
    text = fragments.alone(fragments.refused("Write a sentence."))
    assert "Write a sentence." in Tags(text).text
    used = set(re.findall(r"var\((--[\w-]+)\)", text))
    assert used and used == set(re.findall(r"(--[\w-]+):", text))


@pytest.mark.parametrize(("share", "text"), [(0.0, "0.0%"), (1e-5, "<0.1%"), (0.0005, "0.1%"), (1.0, "100.0%")])
def test_small_shares_are_not_shown_as_none(share, text):
    assert fragments.percent(share) == text
