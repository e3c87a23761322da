"""The writer of reports: both pages show the same words, whatever is in them, and only their own drawings."""

import html.parser

from markdown_it import MarkdownIt

from realm_jax import report
from realm_jax.report import Figure, Marked, Markup, Plot, Section, Table

EVIL = "a | b <script>x</script> ![i](http://x/y.png) *c* `d` &amp; \\ # e"
SECTIONS = [
    Section("", [("one", EVIL)]),
    Section(EVIL, [EVIL, Table(("name", "n"), [(EVIL, "1"), ("plain", "2")], ("name",))]),
    Section(
        "Drawn", [Plot("curve", EVIL, "about it", "<svg id='curve'></svg>"), Figure(lambda: "<svg></svg>", EVIL)], 3
    ),
    Section("Marked", [Marked("**bold** ![alt](http://x/z.png)"), Markup("<mark>own</mark>")]),
]


class Page(html.parser.HTMLParser):
    """What a page loads, and what a reader sees."""

    def __init__(self, text: str):
        super().__init__()
        self.tags, self.seen = [], ""
        self.feed(text[text.index("<body>") :] if "<body>" in text else text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)

    def handle_data(self, data):
        self.seen += data


def words(text: str) -> str:
    return " ".join(text.split())


def test_the_markdown_page_shows_each_text_as_it_is():
    made = report.markdown(f"t {EVIL}", SECTIONS)
    page = Page(MarkdownIt("commonmark", {"html": True}).enable("table").render(made))
    assert words(page.seen).count(EVIL) == 6  # title, list, heading, paragraph, cell, plot; no figure, no alternative
    assert page.tags.count("img") == 2 and "](plots/curve.svg)" in made  # the plot's file, and the one that was marked
    assert not {"script", "svg", "mark"} & set(page.tags)
    assert (page.tags.count("table"), page.tags.count("tr"), page.tags.count("td")) == (1, 3, 4)


def test_the_html_page_shows_the_same_and_loads_nothing():
    page = Page(report.html(f"t {EVIL}", SECTIONS))
    assert words(page.seen).count(EVIL) == 7  # the figure's caption, too
    assert not {"script", "img", "a"} & set(page.tags)
    assert page.tags.count("svg") == 2 and page.tags.count("mark") == 1 and page.tags.count("strong") == 1
    assert "alt" in page.seen and "http://x/z.png" not in page.seen
