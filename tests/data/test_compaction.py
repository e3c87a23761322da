"""Compaction of a corpus: the same bytes as building the live records at once."""

import numpy as np
import pytest

from realm_jax.config import ConfigError
from realm_jax.data import built, compaction, corpus_writer, run_tokenizer, salient
from realm_jax.data.corpus import Corpus
from realm_jax.data.manifest import write_manifest
from realm_jax.records import Record

NAMES = ["Ada", "Bo", "Cy", "Di", "Ed", "Flo"]
RECORDS = [
    Record(f"id{i}", f"Town {i}", f"{NAMES[i % 6]} Stone came in {1900 + i}. " * (1 + 7 * (i % 4)), "here")
    for i in range(24)
]
ABOUT = {"source": "test", "fingerprint": "x", "tagger": "rules"}


@pytest.fixture(scope="module")
def tools():
    texts = [text for record in RECORDS for text in (record.title, record.text)]
    return {"tokenizer": run_tokenizer.train(texts, 200), "tag": salient.make_tagger("rules")}


def grown(folder, tools, *, dead=()):
    """A corpus of four segments, the last of one record, with deleted records."""
    corpus_writer.build(RECORDS[:10], folder, **tools, block_len_tokens=32, description=ABOUT)
    for records in (RECORDS[10:11], RECORDS[11:23], RECORDS[23:]):
        corpus_writer.append(records, folder, **tools)
    blocks = Corpus.open(folder).blocks_of(dead)
    return corpus_writer.delete([i for of_record in blocks.values() for i in of_record], folder)


def built_at_once(folder, tools, records):
    return corpus_writer.build(records, folder, **tools, block_len_tokens=32, description=ABOUT)


@pytest.mark.parametrize("dead", [(), ("id0", "id9", "id10", "id14", "id23")], ids=["all", "some"])
@pytest.mark.parametrize("chunk", [3, 1000])
def test_the_bytes_are_those_of_building_what_is_live(tmp_path, tools, dead, chunk, monkeypatch):
    monkeypatch.setattr(compaction, "CHUNK_SOURCES", chunk)
    old = grown(tmp_path / "old", tools, dead=dead)
    manifest = compaction.compact(old, 1 << 20)
    once = built_at_once(tmp_path / "once", tools, [r for r in RECORDS if r.id not in dead])
    assert [entry["hash"] for entry in manifest["segments"]] == once.segment_hashes
    assert manifest["tombstones"] == [] and old.num_blocks - len(old.tombstones) == once.num_blocks
    assert manifest["segments"][0]["bytes"] == once.manifest["segments"][0]["bytes"]
    assert Corpus.open(old.folder).segment_hashes == old.segment_hashes  # nobody knows of it yet
    assert compaction.compact(Corpus.of(old.folder, manifest), 1 << 20) is None


def test_segments_that_stay_keep_their_folders_and_new_ones_get_new_names(tmp_path, tools):
    old = grown(tmp_path / "old", tools, dead=["id23"])
    sizes = [entry["bytes"]["text"] for entry in old.manifest["segments"]]
    assert compaction.groups(old, sizes[0] + sizes[1]) == [[0, 1], [2], [3]]
    manifest = compaction.compact(old, sizes[0] + sizes[1])
    assert [entry["name"] for entry in manifest["segments"]] == ["segment-00004", "segment-00002"]
    write_manifest(old.folder, manifest)
    added = corpus_writer.append([Record("new", "New", "Di Reed came in 1999.", "here")], old.folder, **tools)
    assert [entry["name"] for entry in added.manifest["segments"]][-1] == "segment-00005"
    titles = [record.title for record in RECORDS[:23]] + ["New"]
    assert list(dict.fromkeys(added.block(i).title for i in range(added.num_blocks))) == titles


def test_a_run_whose_corpus_was_compacted_still_is_a_copy_of_the_built_one(tmp_path, tools):
    whole = grown(tmp_path / "built", tools)
    tools["tokenizer"].save(str(tmp_path / "built" / built.TOKENIZER))
    taken = built.take(str(whole.folder), tmp_path / "run", 32)
    for record_id in ("id3", "id4"):
        blocks = corpus_writer.delete(taken.blocks_of([record_id])[record_id], taken.folder)
        write_manifest(taken.folder, compaction.compact(blocks, 1 << 20))
        taken = built.take(str(whole.folder), tmp_path / "run", 32)
    assert len(taken.segments) == 1 and not taken.blocks_of(["id3", "id4"])
    assert len(Corpus.open(whole.folder).blocks_of(["id3", "id4"])) == 2  # shared by hard links, not touched
    other = built_at_once(tmp_path / "other", tools, RECORDS[:3])
    tools["tokenizer"].save(str(tmp_path / "other" / built.TOKENIZER))
    with pytest.raises(ConfigError, match="is not a copy of"):
        built.take(str(other.folder), tmp_path / "run", 32)


def test_held_out_records_stay_so(tmp_path, tools):
    old = grown(tmp_path / "old", tools, dead=["id1"])
    new = Corpus.of(old.folder, compaction.compact(old, 1 << 20))
    assert (new.heldout(0.4) == old.heldout(0.4)[old.live]).all() and new.heldout(0.4).any()
    assert (np.diff(new.record_of_block) >= 0).all()
    assert new.record_ids() == [r.id for r in RECORDS if r.id != "id1"]


def test_a_corpus_of_deleted_blocks_is_not_compacted(tmp_path, tools):
    old = grown(tmp_path / "old", tools, dead=[record.id for record in RECORDS])
    with pytest.raises(ConfigError, match="all its blocks are deleted"):
        compaction.compact(old, 1 << 20)
