"""A folder has one build at a time, and a build goes on from any folder."""

import json
import os

import pytest

from realm_jax import paths
from realm_jax.commands import corpus as build
from realm_jax.config import ConfigError
from realm_jax.data.build import plan, source
from realm_jax.data.build.shards import Job
from realm_jax.data.corpus import Corpus
from realm_jax.data.prepare import open_prepared
from realm_jax.lock import only_one
from realm_jax.tagging import retagged_corpus


@pytest.fixture
def docs(tmp_path):
    """A file of one record whose name is no UTF-8."""
    file = tmp_path / os.fsdecode(b"d\xe9.jsonl")
    file.write_text(json.dumps({"id": "1", "title": "T", "text": "Some text."}) + "\n")
    return file


def test_no_second_build_or_tagger(docs, tmp_path, vocabulary, tiny_run):
    out = tmp_path / "out"
    flags = [f"--source={docs}", f"--out={out}", f"--tokenizer={vocabulary}", "--workers=1"]
    with (
        only_one(out / "work" / "lock", "x"),
        pytest.raises(ConfigError, match=r"out is being built by another process \(\d+ on"),
    ):
        build.main(flags)
    data, tagged = open_prepared(tiny_run), tmp_path / "tagged"
    arguments = {
        "tokenizer": data.tokenizer,
        "tagger": "none",
        "tag": lambda documents: [[[] for _ in d[0]] for d in documents],
    }
    with (
        only_one(tagged / retagged_corpus.LOCK, "x"),
        pytest.raises(ConfigError, match=r"tagged is being tagged by another process"),
    ):
        retagged_corpus.retag(data.knowledge, tagged, **arguments)
    retagged_corpus.retag(data.knowledge, tagged, **arguments)
    assert Corpus.open(tagged).num_blocks == data.knowledge.num_blocks
    assert not (tagged / retagged_corpus.LOCK).exists()


def test_a_source_is_the_same_from_another_folder(docs, tmp_path, monkeypatch, tiny_run):
    tokenizer = open_prepared(tiny_run).tokenizer.to_str()

    def planned(spec):
        return plan.make_or_read(
            Job(source.find(paths.absolute(spec)), str(tmp_path / "out"), tokenizer, 48, "rules"), 1 << 20
        )

    monkeypatch.chdir(tmp_path)
    first = planned(docs.name)
    assert first.fingerprint
    (tmp_path / "inner").mkdir()
    monkeypatch.chdir(tmp_path / "inner")
    assert planned(f"../{docs.name}").parts == first.parts
    other = tmp_path / "other.jsonl"
    other.write_text(docs.read_text().splitlines(keepends=True)[0])
    with pytest.raises(ConfigError, match="when it held something else"):
        planned(str(other))
