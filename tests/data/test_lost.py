"""What is lost is told as a share, of wordpieces or bytes or records, with a warning above 1%."""

from collections import Counter

import pytest

from realm_jax.commands import show
from realm_jax.data import corpus_writer, lost
from realm_jax.data.corpus import Corpus
from realm_jax.data.sources.checked import counted
from realm_jax.records import Record
from tests.data.test_corpus import tokenizer


def segment(missing: int, kept: int) -> dict:
    return {"counts": {"lost_wordpieces": missing, "titles_too_long": 1}, "bytes": {"tokens": 2 * kept}}


def test_a_share_of_the_wordpieces_of_all_segments():
    older = {"counts": {"truncated_blocks": 5}, "bytes": {"tokens": 100}}  # does not say how much
    (loss,) = lost.losses({"segments": [segment(1, 100), older, segment(2, 197)]})
    assert (loss.stage, loss.unit, loss.lost, loss.came) == ("cutting", "wordpieces", 3, 300)
    assert lost.losses({"segments": [older]}) == []


@pytest.mark.parametrize(
    ("missing", "line"),
    [
        (0, "lost on cutting: 0 of 1,000 wordpieces (0%)"),
        (10, "lost on cutting: 10 of 1,000 wordpieces (1%)"),
        (11, "warning: lost on cutting: 11 of 1,000 wordpieces (1.1%)"),
    ],
)
def test_more_than_a_percent_is_a_warning(missing, line):
    assert lost.lines({"segments": [segment(missing, 1000 - missing)]}) == [line]


def test_reading_tells_bytes_or_else_records():
    counts = Counter({"bytes read": 400, "redirect": 3})
    lost.lose(counts, "malformed XML", 100)
    assert counts["malformed XML"] == 1
    of_pages = {"segments": [], "build": {"counts": counts}}
    assert lost.lines(of_pages) == ["warning: lost on reading: 100 of 400 bytes (25%)"]
    whole, empty = (Record("1", "", ""), ""), (Record("2", "", ""), "empty text")
    counts = Counter()
    assert len(list(counted([whole] * 148 + [empty] * 50 + [(None, "not JSON"), (None, "without id")], counts))) == 148
    of_lines = {"segments": [], "build": {"counts": counts}}
    assert lost.lines(of_lines) == ["lost on reading: 2 of 200 records (1%)"]


def test_a_corpus_tells_what_it_lost_and_what_it_cut(tmp_path, capsys):
    description = {"source": "s", "fingerprint": "f", "tagger": "none"}
    arguments = {"tokenizer": tokenizer(), "tag": lambda sentences, title: [[] for _ in sentences]}
    folder = tmp_path / "corpus"
    corpus_writer.create(folder, tokenizer=tokenizer(), block_len_tokens=40, description=description)
    texts = ["word " * 100, "One. Two."]
    records = [Record(str(i), "t", text) for i, text in enumerate(texts)]
    corpus_writer.append(records[:1], folder, **arguments)
    show.main([str(folder)])
    printed = capsys.readouterr().out
    assert "sentences cut into pieces: 1" in printed and "lost on cutting: 0 wordpieces, 0.0%" in printed
    corpus_writer.append([Record("2", "t", texts[0])], folder, whole_records=True, **arguments)
    (loss,) = lost.losses(Corpus.open(folder).manifest)
    came = 2 * len(tokenizer().encode(texts[0], add_special_tokens=False).ids)
    assert loss.came == came and 0.3 < loss.share < 0.5
    show.main([str(folder)])
    printed = capsys.readouterr().out
    assert f"warning: lost on cutting: {loss.lost:,} of {came:,} wordpieces" in printed
    assert "left out on cutting: truncated blocks: 1" in printed and "left out on cutting: lost" not in printed
