"""docs/formats.md is what the code recognises."""

import runpy

from documented import REPOSITORY

from realm_jax.data.sources.formats import FORMS

PAGE = REPOSITORY / "docs" / "formats.md"


def test_the_page_is_the_one_that_the_code_makes(monkeypatch):
    monkeypatch.syspath_prepend(REPOSITORY / "docs")
    made = runpy.run_path(str(REPOSITORY / "docs" / "formats.py"))
    text = PAGE.read_text()
    assert made["page"](text) == text, "run python docs/formats.py"
    stale = text.replace("| dpr |", "| drp |")
    assert made["page"](stale) == text


def test_there_is_one_line_for_each_format_of_corpora():
    section = PAGE.read_text().split("<!-- corpus formats -->")[1].split("<!-- /corpus formats -->")[0]
    names = [line.split("|")[1].strip() for line in section.strip().splitlines()[2:]]
    assert names == [form.name for form in FORMS]
