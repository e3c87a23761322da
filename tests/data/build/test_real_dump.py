"""A piece of the real English Wikipedia: counts that were looked up by hand, and no markup left."""

import bz2
import re

import pytest

from benchmarks.real_dump import fetch
from realm_jax.data.corpus import Corpus
from tests.data.build.conftest import articles, build_entry

MARKUP = re.compile(r"\{\{|\}\}|\[\[|\]\]|\{\||\|\}|</?ref|'''|\[http|&[a-z]+;|thumb\||\|right\b")


@pytest.mark.slow
def test_every_page_of_a_real_dump(build, tmp_path):
    file = fetch()
    xml = bz2.decompress(file.read_bytes()).decode()
    build(file, tmp_path / "out", "--shard_mb=2", "--block_len_tokens=288")
    counts, blocks = build_entry(tmp_path / "out")["counts"], articles(tmp_path / "out")
    assert counts["pages"] == xml.count("<page>") == 206
    pages = xml.split("<page>")[1:]
    assert counts["redirect"] == sum("<redirect " in page and "<ns>0</ns>" in page for page in pages)
    titles = dict.fromkeys(title for _, title, _ in blocks)
    assert {"Anarchism", "Aristotle", "Albania"} <= set(titles)
    assert len(titles) == 206 - sum(
        counts[reason] for reason in ("redirect", "disambiguation", "list", "outside the article namespace")
    )
    assert not [text for _, _, text in blocks if MARKUP.search(text)]
    anarchism = " ".join(text for _, title, text in blocks if title == "Anarchism")
    assert anarchism.startswith("Anarchism is a political philosophy")
    assert Corpus.open(tmp_path / "out").num_blocks == len(blocks) > 2000
