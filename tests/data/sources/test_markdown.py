"""Markdown to plain text, against texts that were written down by hand."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from realm_jax.data.sources import markdown

LINES = {
    "markup goes": ("**Bold** `word`, snake_case_name and 2 * 3 * 4.", ["Bold word, snake_case_name and 2 * 3 * 4."]),
    "a year and a number at the start of a line are text": (
        "She came in the late summer of\n1945. They were\n17. Both figures stay.",
        ["She came in the late summer of 1945. They were 17. Both figures stay."],
    ),
    "a paragraph that begins with a number keeps it": (
        "1945. The war ended.\n\n* * *\n\n1. Liga is a league.\n\n***\n\n1986.",
        ["1945. The war ended.", "1. Liga is a league.", "1986."],
    ),
    "numbers that only count go": ("1. one\n2. two\n   - in\n     on\n1. three", ["one", "two", "in on", "three"]),
    "links leave their text": (
        "In [the log](http://x.y/A_(b)), [see [this] one](z), [this][r], [r] and <http://u.v>.\n\n[r]: http://x.y 'T'",
        ["In the log, see [this] one, this, r and http://u.v."],
    ),
    "what is no definition of a link stays": ("[Ada]: Yes.\n\n[Ben]: No, thanks", ["[Ada]: Yes.", "[Ben]: No, thanks"]),
    "images go": ("Before ![alt](i.png) after [![b](c)](d).\n\n![alone](i.png)", ["Before after ."]),
    "fenced code goes, inline code stays": ("```py\nx = 1\n```\nUse `x  =` [`y`](z).\n\n~~~\ny\n~~~", ["Use x = y."]),
    "code that never ends stays": ("a\n\n```\nrest\n\nof it", ["a", "rest", "of it"]),
    "indented text is prose": ("a\n\n    indented *prose*\n", ["a", "indented prose"]),
    "comments and tags go": (
        "x <!-- no --> <b>bold</b><br>y\n\n<!-- no\n\nno -->\n\n<div>\nSome <i>more</i>\n&amp; text<p>end\n</div>",
        ["x bold", "y", "Some more & text", "end"],
    ),
    "what is no tag of HTML stays": (
        "<Ada Stone> said: run `x` <file> <b>now</b>.\n\n<Ben>\nno",
        ["<Ada Stone> said: run x <file> now.", "<Ben> no"],
    ),
    "a comment that never ends stays": ("a\n\n<!-- open\n\nb", ["a", "open", "b"]),
    "scripts go": ("<script>\nvar x;\n\nx\n</script>\nb\n\n<style>c</style>", ["b"]),
    "hard breaks break": ("one  \ntwo\\\nthree\nfour", ["one", "two", "three four"]),
    "quotes within quotes": ("> one\n> two\n> > three\n", ["one two", "three"]),
    "rows of a table": ("| a | b |\n|---|:-:|\n| 1 | **2** |\n| | x \\| y |", ["a | b", "1 | 2", "x | y"]),
    "footnotes": ("A[^1] text[^b].\n\n[^1]: The note\n    goes.\n[^b]: word", ["A text.", "The note goes.", "word"]),
    "escapes and entities": (r"\*a\* &amp; &copy; 5 \< 6 &nosuch; ~~b~~", ["*a* & © 5 < 6 &nosuch; b"]),
    "front matter goes": ('---\nlayout: x\n"a b": c\n- d\n  e\n\n# f\n---\ntext', ["text"]),
    "TOML goes": ('+++\na = """\nb c\n"""\n[d]\n+++\ntext', ["text"]),
    "two thematic breaks around talk are no front matter": (
        "---\nAda: In 1901.\n\nThen she left.\n\n---\nmore",
        ["Ada: In 1901.", "Then she left.", "more"],
    ),
    "two thematic breaks are no front matter": ("---\n\ntext\n\n---\n\nmore", ["text", "more"]),
    "later headings are lines": ("# T\n\n## Part *two* ##\n\nOther\n=====\ntext", ["Part two", "Other", "text"]),
}  # fmt: skip


@pytest.mark.parametrize("name", LINES)
def test_lines(name):
    text, expected = LINES[name]
    assert markdown.parse(text)[1].splitlines() == expected


@pytest.mark.parametrize(
    ("text", "title"),
    [
        ("no heading", None),
        ("intro\n\n# A *fine* `Title` #\n\nbody", "A fine Title"),
        ("Set [up](x)\n---\n\n# Other", "Set up"),
        ("#\n\n## Second", "Second"),
        ("> # Quoted\n\n- # Item\n\n# Real", "Real"),
        ("a whole paragraph\nof two lines\n---\n\n# Real", "Real"),
        ("---\ntitle: x\n---\n# Real", "Real"),
    ],
)
def test_title(text, title):
    found, body = markdown.parse(text)
    assert found == title and (title is None or title not in body)


MARKUP = [
    "# ",
    "**",
    "_",
    "`",
    "```\n",
    "~~~",
    "<",
    "<!--",
    "-->",
    "[",
    "](",
    ")",
    "![",
    "> ",
    "- ",
    "1. ",
    "|",
    "\n|-|\n",
]
MARKUP += [
    "\n",
    "\n\n",
    "a",
    "    ",
    "\\",
    "&amp;",
    "<b>",
    "[^1]",
    "[^1]: ",
    "[r]: x",
    "---\n",
    "\t",
    "\x00",
    "<script>",
    "  \n",
]


WORDS = st.sampled_from(
    ["1945.", "17.", "a-b", "(see", "it)", "snake_case", "é日", "5%", "what?!", "x,y;", "-", "U.S.", "'s"]
)


@settings(deadline=None)
@given(st.lists(st.lists(WORDS, min_size=1).map(" ".join), min_size=1))
def test_every_word_of_a_plain_paragraph_stays(lines):
    text = "Text " + "\nand ".join(lines)
    title, body = markdown.parse(text)
    assert title is None and body.splitlines() == [" ".join(text.split())]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(MARKUP), max_size=40).map("".join))
def test_anything_gives_lines_of_text(text):
    title, body = markdown.parse(text)
    assert title is None or title.strip() == title != ""
    assert all(line == line.strip() != "" for line in body.split("\n") if body)


def test_long_paragraphs_and_deep_nesting_stay_whole():
    words = " ".join(f"w{i}" for i in range(3000)) + " " + "x" * 9000
    assert markdown.parse(words)[1] == words
    for text in (
        ">" * 5000 + " deep",
        "- " * 5000 + "deep",
        "> - " * 3000 + "deep",
        "[" * 9000 + "deep",
        "**" * 9000 + "deep",
    ):
        assert markdown.parse(text)[1].endswith("deep")


BAD = [
    "[",
    "*a ",
    "`a``",
    "<",
    "<a",
    "![",
    "> ",
    "a](",
    "[a](",
    "<!-- ",
    "[a]: b\n",
    "a<![CDATA[",
    "- a\n",
    "|a|\n|-|\n",
    "_a*",
]


@pytest.mark.parametrize("piece", BAD)
def test_time_is_linear(linear_time, piece):
    linear_time(markdown.parse, piece, 5_000)
