"""The BM25 index that is built in parts against that of bm25s, built at once; where it lies, when it is made anew."""

import json
import pathlib
import shutil

import bm25s
import numpy as np
import pytest

from realm_jax.checksums import Damaged
from realm_jax.data import built, corpus_writer
from realm_jax.data.corpus import Corpus
from realm_jax.data.manifest import MANIFEST
from realm_jax.data.prepare import open_prepared
from realm_jax.data.salient import make_tagger
from realm_jax.eval import bm25_index
from realm_jax.eval.baselines import bm25
from realm_jax.local_cache import cache_dir
from realm_jax.records import Record


@pytest.fixture
def corpus(tiny_run):
    return open_prepared(tiny_run).knowledge


def built_at_once(corpus: Corpus) -> bm25s.BM25:
    """What bm25s itself makes of all texts together."""
    blocks = [corpus.block(i) for i in range(corpus.num_blocks)]
    tokens = bm25s.tokenize([f"{b.title} {b.text}" for b in blocks], stopwords="en", show_progress=False)
    index = bm25s.BM25()
    index.index(tokens, show_progress=False)
    return index


@pytest.mark.parametrize(("blocks", "postings"), [(7, 50), (1000, 1 << 20)])
def test_the_parts_give_the_bits_of_the_whole(corpus, tmp_path, monkeypatch, blocks, postings):
    monkeypatch.setattr(bm25_index, "PART_BLOCKS", blocks)
    monkeypatch.setattr(bm25_index, "RANGE_POSTINGS", postings)
    bm25_index.build(corpus, tmp_path)
    found, expected = bm25s.BM25.load(tmp_path, mmap=True), built_at_once(corpus)
    assert isinstance(found.scores["data"], np.memmap)
    assert found.vocab_dict == expected.vocab_dict and len(found.vocab_dict) > 100
    for name in ("data", "indices", "indptr"):
        np.testing.assert_array_equal(found.scores[name], expected.scores[name], err_msg=name)
        assert found.scores[name].dtype == expected.scores[name].dtype
    assert found.scores["num_docs"] == corpus.num_blocks
    assert not any(file.is_dir() for file in tmp_path.iterdir())  # the spills are gone


def ranked_at_once(corpus: Corpus, queries: list[str], k: int) -> np.ndarray:
    wanted = bm25s.tokenize(queries, stopwords="en", show_progress=False)
    live = np.array([i not in set(corpus.tombstones.tolist()) for i in range(corpus.num_blocks)], np.float32)
    return built_at_once(corpus).retrieve(wanted, k=k, weight_mask=live, show_progress=False).documents


def test_it_is_built_once_for_the_same_segments_and_leaves_deleted_blocks_out(new_run, monkeypatch):
    run = new_run()
    corpus, builds = open_prepared(run).knowledge, []
    build = bm25_index.build
    monkeypatch.setattr(bm25_index, "build", lambda *args: builds.append(args) or build(*args))
    queries = [corpus.block(i).text for i in (3, 40)]
    first = bm25(corpus, queries, 5)
    np.testing.assert_array_equal(first, ranked_at_once(corpus, queries, 5))
    deleted = corpus_writer.delete([3], corpus.folder)
    again = bm25(deleted, queries, 5)
    assert first[0, 0] == 3 and 3 not in again and len(builds) <= 1  # another test may have built it
    np.testing.assert_array_equal(again, ranked_at_once(deleted, queries, 5))
    tools = {"tokenizer": open_prepared(run).tokenizer, "tag": make_tagger("rules")}
    grown = corpus_writer.append([Record("new", "Xyzzy", "Plugh is said in Xyzzy.", "here")], corpus.folder, **tools)
    builds.clear()
    assert bm25(grown, ["plugh"], 2).tolist() == [[corpus.num_blocks, -1]] and len(builds) == 1


def test_a_build_that_is_killed_leaves_nothing(corpus, tmp_path, monkeypatch):
    copy = built_copy(corpus, tmp_path)
    monkeypatch.setattr(bm25s.BM25, "save", lambda *args, **options: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        bm25_index.build_beside(copy)
    assert not list(tmp_path.rglob("bm25-*"))
    monkeypatch.undo()
    folder = bm25_index.build_beside(copy)
    assert (folder / "manifest.json").exists() and folder.parent == copy.folder


def test_the_index_beside_a_corpus_is_taken_and_follows_it_into_runs(corpus, tmp_path, monkeypatch):
    copy = built_copy(corpus, tmp_path)
    expected, beside = bm25(corpus, ["Paris"], 5), bm25_index.build_beside(copy)
    monkeypatch.setattr(bm25_index, "build", lambda *args: pytest.fail("it is there already"))
    np.testing.assert_array_equal(bm25(copy, ["Paris"], 5), expected)
    taken = built.take(str(copy.folder), tmp_path / "taken", corpus.block_len_tokens)
    assert (taken.folder / beside.name / "manifest.json").exists()
    monkeypatch.setenv("REALM_JAX_CACHE", str(tmp_path / "empty"))
    np.testing.assert_array_equal(bm25(taken, ["Paris"], 5), expected)
    assert not (cache_dir() / "bm25").exists()


def test_damage_is_found_and_named(corpus, tmp_path, monkeypatch):
    monkeypatch.setenv("REALM_JAX_CACHE", str(tmp_path / "cache"))
    copy = built_copy(corpus, tmp_path)
    expected = bm25(copy, ["Paris"], 5)
    (cached,) = (tmp_path / "cache" / "bm25").glob("*/*")
    for folder in (pathlib.Path(bm25_index.build_beside(copy)), cached):
        for file in [file for file in folder.iterdir() if file.name != MANIFEST]:
            whole, at = file.read_bytes(), file.stat().st_size // 2
            file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            with pytest.raises(Damaged, match=f"{file} differs from its checksum: delete {folder}"):
                bm25(copy, ["Paris"], 5)
            file.write_bytes(whole[:-1])
            with pytest.raises(Damaged, match=f"{file} has {len(whole) - 1} bytes instead of {len(whole)}"):
                bm25(copy, ["Paris"], 5)
            file.write_bytes(whole)
        np.testing.assert_array_equal(bm25(copy, ["Paris"], 5), expected)
        shutil.rmtree(folder)  # as it advises
        np.testing.assert_array_equal(bm25(copy, ["Paris"], 5), expected)


def test_a_damaged_index_in_a_bucket_is_named_there(corpus, tmp_path, monkeypatch):
    monkeypatch.setenv("REALM_JAX_CACHE", str(tmp_path / "cache"))
    copy = built_copy(corpus, tmp_path)
    expected, beside = bm25(copy, ["Paris"], 5), bm25_index.build_beside(copy)
    shutil.rmtree(tmp_path / "cache" / "bm25")
    monkeypatch.setattr(bm25_index, "is_remote", lambda path: path == beside)
    data, whole = beside / "data.csc.index.npy", (beside / "data.csc.index.npy").read_bytes()
    data.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(Damaged, match=f"{data} differs from its checksum: delete {beside}"):
        bm25(copy, ["Paris"], 5)
    assert not list((tmp_path / "cache" / "bm25").rglob("*.npy"))  # no copy of it is kept
    data.write_bytes(whole)
    np.testing.assert_array_equal(bm25(copy, ["Paris"], 5), expected)


def test_an_index_of_an_earlier_release_has_no_checksums(corpus, tmp_path):
    copy = built_copy(corpus, tmp_path)
    expected, manifest = bm25(copy, ["Paris"], 5), bm25_index.build_beside(copy) / MANIFEST
    described = json.loads(manifest.read_text(encoding="utf-8"))
    manifest.write_text(json.dumps(described | {"files": sorted(described["files"])}), encoding="utf-8")
    np.testing.assert_array_equal(bm25(copy, ["Paris"], 5), expected)


def test_a_read_only_corpus_is_served_from_the_cache(corpus, tmp_path, monkeypatch):
    monkeypatch.setenv("REALM_JAX_CACHE", str(tmp_path / "cache"))
    copy = built_copy(corpus, tmp_path)
    before = sorted((tmp_path / "corpus").rglob("*"))
    bm25(copy, ["Paris"], 5)
    assert sorted((tmp_path / "corpus").rglob("*")) == before
    assert len(list((tmp_path / "cache" / "bm25").rglob("manifest.json"))) == 1


def built_copy(corpus: Corpus, folder) -> Corpus:
    """The corpus in a folder of its own."""
    shutil.copytree(corpus.folder, folder / "corpus")
    return Corpus.open(folder / "corpus")
