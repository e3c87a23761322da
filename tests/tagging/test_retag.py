"""A retagged corpus is the one that building it with the tagger gives, byte for byte, also after kills."""

import os

import numpy as np
import pytest

from realm_jax.config import ConfigError
from realm_jax.data import corpus_writer, run_tokenizer, salient
from realm_jax.data.corpus import Corpus
from realm_jax.data.segment import COLUMNS
from realm_jax.data.sources.sources import read
from realm_jax.records import Span
from realm_jax.tagging import retagged_corpus as retag_lib
from realm_jax.tagging.retagged_corpus import retag

PARTS = 3


def rules(documents):
    return [salient.tag_by_rules(*document) for document in documents]


def long_words(sentences, title):
    """Spans of two types, some of which cut wordpieces or lie beyond a block's end."""
    found = []
    for sentence in sentences:
        spans, at = [], 0
        for number, word in enumerate(sentence.split(" ")):
            if len(word) > 7:
                spans.append(Span(at, at + len(word) - (number % 5 == 0), "ODD" if len(word) % 2 else "EVEN"))
            at += len(word) + 1
        found.append(spans)
    return found


def build(folder, records, tokenizer, tag, name):
    """A corpus of three segments, with a tombstone."""
    description = {"source": "test", "fingerprint": "f", "tagger": name}
    arguments = {"tokenizer": tokenizer, "tag": tag}
    corpus_writer.build(records[::PARTS], folder, block_len_tokens=32, description=description, **arguments)
    for part in range(1, PARTS):
        corpus_writer.append(records[part::PARTS], folder, **arguments)
    return corpus_writer.delete([3], folder)


@pytest.fixture(scope="module")
def records(corpus_file):
    return list(read(str(corpus_file)).records())


@pytest.fixture(scope="module")
def tokenizer(records):
    made = run_tokenizer.train([record.text for record in records], 900)
    return made


@pytest.fixture(scope="module")
def by_rules(records, tokenizer, tmp_path_factory):
    return build(tmp_path_factory.mktemp("rules") / "corpus", records, tokenizer, salient.tag_by_rules, "rules")


@pytest.fixture(scope="module")
def by_length(records, tokenizer, tmp_path_factory):
    return build(tmp_path_factory.mktemp("length") / "corpus", records, tokenizer, long_words, "length")


def lengths(documents):
    return [long_words(*document) for document in documents]


def assert_same(ours: Corpus, theirs: Corpus):
    assert ours.hash == theirs.hash and ours.segment_hashes == theirs.segment_hashes
    assert ours.manifest["segments"] == theirs.manifest["segments"]
    for entry in theirs.manifest["segments"]:
        for name in COLUMNS:
            path = f"{entry['name']}/{name}.bin"
            assert (ours.folder / path).read_bytes() == (theirs.folder / path).read_bytes(), path


@pytest.mark.parametrize("chunk", [1, 50, 8192])
def test_same_bytes_as_building_with_the_tagger(by_rules, by_length, tokenizer, tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(retag_lib, "CHUNK_SENTENCES", chunk)
    made = retag(by_rules, tmp_path / "length", tokenizer=tokenizer, tag=lengths, tagger="length")
    assert_same(made, by_length)
    counts = made.manifest["segments"][0]["counts"]
    assert counts["misaligned_spans"] and counts["split_sentences"]
    again = retag(made, tmp_path / "rules", tokenizer=tokenizer, tag=rules, tagger="rules")
    assert_same(again, by_rules)


def test_manifest_names_the_tagger_and_keeps_the_rest(by_rules, tokenizer, tmp_path):
    made = retag(by_rules, tmp_path / "new", tokenizer=tokenizer, tag=lengths, tagger="length:1")
    assert made.manifest["tagger"] == made.manifest["description"]["tagger"] == "length:1"
    assert made.manifest["description"]["source"] == "test" and made.tombstones.tolist() == [3]
    np.testing.assert_array_equal(made.block_hashes(np.arange(9)), by_rules.block_hashes(np.arange(9)))
    made.check_against(made.manifest["description"], tokenizer=tokenizer, block_len_tokens=32)
    assert (tmp_path / "new" / "tokenizer.json").read_text() == tokenizer.to_str()
    text = "segment-00001/text.bin"
    assert os.path.samefile(made.folder / text, by_rules.folder / text)


def test_finished_segments_survive_a_kill(by_rules, by_length, tokenizer, tmp_path):
    seen = []

    def dies(documents):
        seen.append(documents)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return lengths(documents)

    with pytest.raises(KeyboardInterrupt):
        retag(by_rules, tmp_path / "new", tokenizer=tokenizer, tag=dies, tagger="length")
    with pytest.raises(ConfigError, match="no corpus here"):
        Corpus.open(tmp_path / "new")
    first = (tmp_path / "new" / "segment-00000" / "spans.bin").stat().st_mtime_ns
    tagged, told = [], []

    def goes_on(documents):
        tagged.append(len(documents))
        return lengths(documents)

    again = {"tokenizer": tokenizer, "tagger": "length", "progress": lambda done, total: told.append((done, total))}
    made = retag(by_rules, tmp_path / "new", tag=goes_on, **again)
    assert_same(made, by_length)
    assert (tmp_path / "new" / "segment-00000" / "spans.bin").stat().st_mtime_ns == first
    assert sum(tagged) == sum(len(segment.sources) for segment in by_rules.segments[1:])
    left = sum(len(segment.sentences) for segment in by_rules.segments[1:])
    assert told[-1] == (left, left)
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == [
        *["manifest.json", "segment-00000", "segment-00001", "segment-00002", "tokenizer.json"]
    ]
    retag(by_rules, tmp_path / "new", tag=goes_on, **again)
    assert len(tagged) == PARTS - 1  # finished: nothing was tagged again


def test_a_folder_with_something_else_is_refused(by_rules, tokenizer, tmp_path):
    def run(out, tagger="length", corpus=by_rules, tokenizer=tokenizer):
        retag(corpus, out, tokenizer=tokenizer, tag=lengths, tagger=tagger)

    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("")
    with pytest.raises(ConfigError, match="mine: is not an empty folder: pass another --out"):
        run(tmp_path / "mine")
    with pytest.raises(ConfigError, match="is another corpus: pass another --out"):
        run(by_rules.folder)
    run(tmp_path / "new")
    with pytest.raises(ConfigError, match="is another corpus: pass another --out"):
        run(tmp_path / "new", tagger="other")
    with pytest.raises(ConfigError, match="was cut with another vocabulary: pass its --tokenizer=FILE"):
        run(tmp_path / "next", tokenizer=run_tokenizer.train(["some other text"], 200))
    assert not (tmp_path / "next").exists()
