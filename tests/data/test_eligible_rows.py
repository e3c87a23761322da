"""Rows that can be masked: the same however few are looked at at once, found once, and never half there.

Which rows these are is compared with loops over the corpus in test_pipeline.py and test_sampling.py.
"""

import dataclasses
import errno
import itertools
import os
import signal
import subprocess
import sys
import time
import tracemalloc

import numpy as np
import pytest
from etils import epath

from realm_jax.config import ConfigError
from realm_jax.data import corpus_writer, eligible_rows, recurring_spans, salient, table_chunks
from realm_jax.data.eligible_rows import Wanted
from realm_jax.data.pipeline import MaskedSentences, shuffled
from realm_jax.data.prepare import open_prepared
from realm_jax.records import Record
from tests.damage import flip_a_bit

WANTED = Wanted("spans", "block", heldout_fraction=0.2, heldout=False, query_len_tokens=24, answer_elsewhere=False)
NEW = "In {year} Curie {year} went to Paris. Marie Curie of Warsaw met Albert Einstein in Brussels in May {year}."


@pytest.fixture(scope="module")
def corpus(tiny_run, copy_run, tmp_path_factory):
    """Two segments, and a deleted block in the first."""
    run = copy_run(tiny_run, tmp_path_factory.mktemp("eligible") / "run")
    records = [Record(f"new-{i}", f"Curie {i}", NEW.format(year=1900 + i)) for i in range(9)]
    corpus_writer.append(
        records, run.knowledge_folder, tokenizer=open_prepared(run).tokenizer, tag=salient.make_tagger("rules")
    )
    return corpus_writer.delete([2], run.knowledge_folder)


def find(corpus, kept=None, **changes):
    return eligible_rows.eligible_rows(corpus, dataclasses.replace(WANTED, **changes), kept and epath.Path(kept))


def as_lists(found):
    return found.rows.tolist(), list(map(int, found.limits)), dict(found.skipped)


@pytest.mark.parametrize(
    ("column", "example", "answer_elsewhere"),
    [
        ("spans", "block", False),
        ("spans", "block", True),
        ("spans", "sentence", False),
        ("spans", "span", True),
        ("sentences", "block", False),
    ],
)
def test_chunks_of_any_size_give_the_same(corpus, monkeypatch, column, example, answer_elsewhere):
    wanted = {"column": column, "example": example, "answer_elsewhere": answer_elsewhere}
    whole = as_lists(find(corpus, **wanted))
    rows, limits, _ = whole
    assert rows == sorted(set(rows)) and limits == sorted(set(limits)) and limits[0] == 0 and limits[-1] == len(rows)
    for chunk, part in itertools.product((1, 7, 50), (3, 100)):
        monkeypatch.setattr(table_chunks, "CHUNK_ROWS", chunk)
        monkeypatch.setattr(recurring_spans, "PART_ROWS", part)
        assert as_lists(find(corpus, **wanted)) == whole


def test_recurring_spans_against_sets(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(recurring_spans, "PART_ROWS", 10)
    articles, texts, records = {}, [], corpus.record_of_block
    for block in range(corpus.num_blocks):
        for span in corpus.spans(block):
            texts.append(int(span["text_hash"]))
            articles.setdefault(texts[-1], set()).add(int(records[block]))
    expected = [len(articles[text]) > 1 for text in texts]
    assert recurring_spans.recurring_spans(corpus, tmp_path).tolist() == expected and 0 < sum(expected) < len(texts)
    assert [file.name for file in tmp_path.iterdir()] == ["recurs.bin"]


def test_articles_of_two_segments_are_two(corpus, tmp_path):
    """A segment beside itself: every text is in another article, too."""
    first = corpus.segments[0]
    second = dataclasses.replace(first, first_block=len(first.blocks))
    twice = type(corpus)(corpus.folder, corpus.manifest, [first, second])
    assert recurring_spans.recurring_spans(twice, tmp_path).all()


def test_they_are_found_once(corpus, tmp_path, monkeypatch):
    first = as_lists(find(corpus, tmp_path / "examples"))
    monkeypatch.setattr(eligible_rows, "_make", None)
    assert as_lists(find(corpus, tmp_path / "examples")) == first
    with pytest.raises(TypeError):
        find(corpus)


def test_the_key_is_what_decides(corpus, tiny_run):
    of = tiny_run.config.pretrain

    def key(corpus=corpus, heldout_fraction=0.2, heldout=False, **policy):
        return Wanted.by(dataclasses.replace(of, **policy), heldout_fraction, heldout).key(corpus)

    same = [{"max_masks": 3}, {"batch_size": 16}, {"steps": 9}]
    other = [{"query_len_tokens": 20}, {"sampling": "span"}, {"answer_elsewhere": True}, {"masking": "uniform"}]
    other += [{"heldout": True}, {"heldout_fraction": 0.3}, {"corpus": open_prepared(tiny_run).text}]
    assert {key(**policy) for policy in same} == {key()}
    assert len({key(), *(key(**policy) for policy in other)}) == 1 + len(other)
    # A sentence is cut, so its length does not matter.
    assert key(masking="uniform") == key(masking="span", query_len_tokens=20) == key(masking="span")


def test_a_deletion_counts_at_the_next_opening(tiny_run, copy_run, tmp_path):
    run = copy_run(tiny_run, tmp_path / "run")
    policy = dataclasses.replace(run.config.pretrain, sampling="block")

    def blocks():
        data = open_prepared(run)
        found = MaskedSentences(data.text, data.special, policy, 0.0, kept=data.examples)
        return {int(found.locate(place)[3]["block"]) for place in range(len(found.rows))}

    before = blocks()
    corpus_writer.delete([5], run.knowledge_folder)
    assert blocks() == before - {5} != before
    assert len([f for f in run.examples_folder.iterdir() if (f / "about.json").exists()]) == 2


def test_a_damaged_file_is_named(corpus, tmp_path):
    find(corpus, tmp_path / "examples")
    (rows,) = tmp_path.glob("examples/*/rows.bin")
    whole = rows.read_bytes()
    flip_a_bit(rows)
    with pytest.raises(ConfigError, match=r"is damaged .rows.bin differs from its checksum.: delete it"):
        find(corpus, tmp_path / "examples")
    rows.write_bytes(whole[:-1])
    with pytest.raises(ConfigError, match="is damaged.*delete it"):
        find(corpus, tmp_path / "examples")


def test_a_killed_process_leaves_nothing_that_counts(corpus, tmp_path):
    """Killed in mid-work; the next one finds all of it, and clears away what was left."""
    script = (
        "import sys, time; from realm_jax.data import eligible_rows, table_chunks; "
        "from realm_jax.data.corpus import Corpus; table_chunks.CHUNK_ROWS = 7; chosen = eligible_rows._chosen\n"
        "def slowly(*arguments):\n"
        "    for n, rows in enumerate(chosen(*arguments)):\n"
        "        yield rows\n"
        "        if n == 9: print('in between', flush=True); time.sleep(60)\n"
        "eligible_rows._chosen = slowly; from tests.data.test_eligible_rows import find; from etils import epath\n"
        "find(Corpus.open(sys.argv[1]), epath.Path(sys.argv[2]))"
    )
    kept = tmp_path / "examples"
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(corpus.folder), str(kept)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "in between\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert [file.name for file in kept.iterdir()] == ["unfinished"] and list((kept / "unfinished").iterdir())
    assert as_lists(find(corpus, kept)) == as_lists(find(corpus))
    deadline = time.monotonic() + 10
    while list((kept / "unfinished").iterdir()):
        assert time.monotonic() < deadline


def test_memory_does_not_grow_with_the_spans(corpus, monkeypatch):
    """Ten times the spans take ten times the chunks, and no more memory at once."""

    def peak(times):
        segment = corpus.segments[0]
        spans = np.tile(segment.spans, times)
        many = type(corpus)(corpus.folder, corpus.manifest, [dataclasses.replace(segment, spans=spans)])
        tracemalloc.start()
        found = find(many, answer_elsewhere=True)
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size, len(found.rows)

    monkeypatch.setattr(table_chunks, "CHUNK_ROWS", 512)
    monkeypatch.setattr(recurring_spans, "PART_ROWS", 512)
    (small, few), (large, many) = peak(4), peak(40)
    assert many == 10 * few and large < 2 * small


def test_a_random_order_without_the_memory_for_it(corpus, tiny_run, monkeypatch):
    special = open_prepared(tiny_run).special
    found = MaskedSentences(corpus, special, tiny_run.config.pretrain, 0.2)
    assert list(shuffled(50, 3)) == np.random.default_rng(3).permutation(50).tolist()
    monkeypatch.setattr("realm_jax.data.pipeline.PERMUTED", 10)
    orders = [list(shuffled(50, seed)) for seed in range(400)]
    assert all(sorted(order) == list(range(50)) for order in orders) and len({tuple(o) for o in orders}) == 400
    assert abs(np.mean([order[0] for order in orders]) - 24.5) < 4 * 14.4 / np.sqrt(400)
    places = found.one_per_sentence(30, seed=3)
    assert len({found.locate(place)[2].tobytes() for place in places}) == 30


def test_a_full_disk_is_said_in_one_line(corpus, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(eligible_rows, "_make", full)
        with pytest.raises(ConfigError, match="no disk space left: free some"):
            find(corpus, tmp_path / "examples")
    assert as_lists(find(corpus, tmp_path / "examples")) == as_lists(find(corpus))
