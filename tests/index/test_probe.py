"""The probe of a run's index versions: drawn once, so that versions of a corpus that changes can be compared."""

import dataclasses

import numpy as np
import pytest

from realm_jax.data import corpus_writer, salient
from realm_jax.data.prepare import open_prepared
from realm_jax.index import probe
from realm_jax.index.knowledge_compaction import compact_knowledge
from realm_jax.records import Record

COUNT = 40
NEW = "In {year} Curie {year} went to Paris. Marie Curie of Warsaw met Albert Einstein in Brussels in May {year}."


@pytest.fixture
def run(tiny_run, copy_run, tmp_path):
    """Every article is held out, so that every block may be drawn."""
    copied = copy_run(tiny_run, tmp_path / "run")
    corpus = dataclasses.replace(copied.config.corpus, heldout_fraction=0.999999)
    copied.config = dataclasses.replace(copied.config, corpus=corpus)
    return copied


def drawn(run, make=probe.run_probe):
    data = open_prepared(run)
    return make(data.knowledge, data.special, run.config, COUNT, data.examples)


def grow(run):
    records = [Record(f"new-{i}", f"Curie {i}", NEW.format(year=1900 + i)) for i in range(60)]
    tag = salient.make_tagger("rules")
    corpus_writer.append(records, run.knowledge_folder, tokenizer=open_prepared(run).tokenizer, tag=tag)


def rows(found):
    return {
        (int(block), *plain.tolist(), *hard.tolist())
        for block, plain, hard in zip(found.own_block, found.plain.ids, found.hard.ids, strict=True)
    }


def test_what_the_corpus_gains_changes_nothing(run):
    first = drawn(run)
    assert len(first.own_block) == COUNT and rows(first) == rows(drawn(run, probe.make_probe))
    grow(run)
    assert rows(drawn(run)) == rows(first) != rows(drawn(run, probe.make_probe))


def test_it_is_drawn_once(run, monkeypatch):
    first = drawn(run)
    monkeypatch.setattr(probe, "_draw", None)
    assert rows(drawn(run)) == rows(first)
    grow(run)
    assert rows(drawn(run)) == rows(first)


def test_sentences_of_deleted_blocks_are_left_out(run):
    first = drawn(run)
    gone = {int(block) for block in first.own_block[:3]}
    corpus_writer.delete(gone, run.knowledge_folder)
    assert rows(drawn(run)) == {row for row in rows(first) if row[0] not in gone}
    corpus_writer.delete({int(block) for block in first.own_block}, run.knowledge_folder)
    assert drawn(run) is None


def test_a_compacted_corpus_has_a_new_one(run):
    corpus_writer.delete(range(20), run.knowledge_folder)
    first = drawn(run)
    compact_knowledge(run, 1 << 30)
    data, second = open_prepared(run), drawn(run)
    assert rows(second) == rows(drawn(run, probe.make_probe))
    for block, plain in zip(second.own_block, second.plain.ids, strict=True):
        body = data.knowledge.body(int(block)).tolist()
        sentence = plain[1 : np.flatnonzero(plain == data.special.sep)[0]].tolist()
        assert any(body[i : i + len(sentence)] == sentence for i in range(len(body)))
    assert len(first.own_block) == COUNT
