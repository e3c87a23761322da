"""A page that takes too long or crashes the parser costs itself alone, and no process stays behind."""

import os
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest
from etils import epath

from realm_jax.data.build import bounded, mediawiki, wikitext
from realm_jax.data.build.bounded import BoundedProse
from realm_jax.data.build.source_parts import Part
from tests.data.build import dump

SLOW = "}}" * 8_000 + "{{a|" * 8_000  # as many ends as beginnings, but the parser takes minutes
VANDALISED = ["{{a |", "[[a|", "{|\n", "<div>", "<br a='", "<!--", "[http://a "]
GOOD = "'''Norland''' is a town. Ada Stone founded it in [[1945]]."


@pytest.fixture
def prose():
    made = BoundedProse(1)
    yield made
    made.close()


def test_a_child_says_what_the_function_says(prose):
    for text in (GOOD, "", "é日\n* no sentence", dump.HARD[2][2], "{{a |" * 20_000):
        assert prose(text, ["datei"]) == wikitext.prose(text, ["datei"])
    assert {prose(piece * 20_000, [])[1] for piece in VANDALISED} == {"markup that is never closed"}


def test_a_page_that_takes_too_long_is_given_up_and_the_next_is_parsed(prose):
    started = time.monotonic()
    first = prose(GOOD, [])
    assert prose(SLOW, []) == ("", bounded.TOO_LONG, {})
    assert prose(GOOD, []) == first == ("Norland is a town. Ada Stone founded it in 1945.", "", {})
    assert time.monotonic() - started < 60


def test_a_page_that_crashes_the_parser_costs_itself_alone(prose, monkeypatch):
    crash = "import os; from realm_jax.data.build import wikitext as w; f = w.prose\n"
    crash += "w.prose = lambda text, hidden: os.abort() if text == 'crash' else f(text, hidden)\n"
    monkeypatch.setattr(bounded, "_COMMAND", crash + bounded._COMMAND)
    assert [prose(text, [])[:2] for text in ("a", "crash", "b")] == [("a", ""), ("", bounded.CRASHED), ("b", "")]
    os.kill(prose._child.pid, signal.SIGKILL)  # by somebody else, between two pages
    prose._child.wait()
    assert prose("c", [])[:2] == ("c", "")


def test_a_child_that_cannot_start_is_no_broken_page(prose, monkeypatch):
    monkeypatch.setattr(bounded, "_COMMAND", "raise SystemExit(3)")
    with pytest.raises(RuntimeError, match="did not start .status 3"):
        prose(GOOD, [])


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), signal.SIGKILL)", "sys.exit()"])
def test_the_child_ends_with_its_process(end):
    lines = ["import os, signal, sys", "from realm_jax.data.build import bounded", "bounded.prose('a', [])"]
    code = "\n".join([*lines, "print(bounded.prose._child.pid, flush=True)", end])
    child = int(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False).stdout)
    for _ in range(100):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    raise AssertionError(f"process {child} is still there")


def test_bad_pages_of_a_dump_are_counted_with_their_bytes(tmp_path, prose, monkeypatch):
    monkeypatch.setattr(bounded, "prose", prose)
    texts = [GOOD, SLOW, "Ada Stone. " + "{{a |" * 20_000, GOOD]
    pages = [dump.page_xml(i, f"Page {i}", 0, text) for i, text in enumerate(texts, 1)]
    file = tmp_path / "a.xml"
    file.write_text(dump.xml(pages))
    size = file.stat().st_size
    counts = Counter()
    found = list(mediawiki.MediaWiki([epath.Path(file)]).records(Part([(str(file), 0, size)], size), counts))
    assert [record.title for record in found] == ["Page 1", "Page 4"]
    assert counts[bounded.TOO_LONG] == counts["markup that is never closed"] == 1
    assert counts["bytes read"] == size
    assert counts["bytes lost"] == sum(len(page.strip().encode()) for page in pages[1:3])
