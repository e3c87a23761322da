import os
import shutil
import subprocess
import sys
import threading

import ml_dtypes
import numpy as np
import pytest

from realm_jax.config import ConfigError, IndexConfig
from realm_jax.index import scann as scann_search
from realm_jax.index.exact import ExactSearch
from realm_jax.index.scann import ScannSearch
from realm_jax.index.search import build_search_files, files_serve, recall_at_k, sample_queries
from tests.index.test_search import clustered

pytest.importorskip("scann", reason="no ScaNN wheel for this platform")
BLOCKS, DIM = 2000, 16
TREE = IndexConfig(scann_leaves_to_search=0.4, builder_threads=1)
EVERY_BLOCK = IndexConfig(scann_leaves_to_search=0.999, scann_reorder=BLOCKS)  # of 44 leaves, all


@pytest.fixture(autouse=True)
def small_limits(monkeypatch):
    """Corpora of the tests are small: at the real limits, all of them would be brute force."""
    monkeypatch.setattr(scann_search, "BRUTE_FORCE_LIMIT", 300)
    monkeypatch.setattr(scann_search, "TREE_LIMIT", 1000)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A tree over the same embeddings for all tests of the module: folder, embeddings and the build's facts."""
    folder, embeddings = tmp_path_factory.mktemp("tree"), clustered(BLOCKS, DIM)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scann_search, "BRUTE_FORCE_LIMIT", 300)
        patch.setattr(scann_search, "TREE_LIMIT", 1000)
        info = build_search_files("scann", embeddings, folder, TREE)
    return folder, embeddings, info


def test_a_build_says_nothing_on_stderr(tmp_path):
    """In a process of its own: C++ writes to the descriptor, and has a notice for the first line of a process."""
    code = (
        "import sys, numpy as np; from realm_jax.config import IndexConfig; from realm_jax.index import scann; "
        "scann.BRUTE_FORCE_LIMIT = 300; embeddings = np.random.default_rng(0).normal(size=(900, 16)); "
        "print(scann.build(embeddings, folder=sys.argv[1], config=IndexConfig()))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "'ah'" in done.stdout, done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize(("blocks", "scoring"), [(1, "brute_force"), (300, "brute_force"), (301, "ah"), (1000, "ah")])
def test_scoring_follows_the_size(tmp_path, blocks, scoring):
    embeddings = clustered(blocks, DIM)
    info = build_search_files("scann", embeddings, tmp_path, IndexConfig())
    assert info["scoring"] == scoring and info["recall_at_5"] > 0.95
    assert (tmp_path / "scann").exists() == (scoring != "brute_force")


def test_tree_reports_its_leaves_and_recall(built):
    folder, _, info = built
    assert info["scoring"] == "tree_ah" and info["leaves"] == 44 and info["leaves_to_search"] == 18
    assert 0.8 < info["recall_at_5"] <= 1
    hashed_bytes = sum(file.stat().st_size for file in (folder / "scann").iterdir())
    assert hashed_bytes < BLOCKS * DIM * 4  # the files do not repeat the embeddings


def test_a_second_leaf_finds_more_in_few_leaves_and_no_block_twice(built, tmp_path):
    folder, embeddings, _ = built
    few = IndexConfig(scann_leaves_to_search=0.05, scann_soar=True, builder_threads=1)
    build_search_files("scann", embeddings, tmp_path, few)
    query_emb = sample_queries(embeddings, 200)
    best = np.argsort(-query_emb @ embeddings.T, axis=1)[:, :5]
    ids = {
        where: ScannSearch(embeddings, folder=where, config=few).search(query_emb, 5)[0] for where in (folder, tmp_path)
    }
    assert recall_at_k(ids[folder], best) + 0.02 < recall_at_k(ids[tmp_path], best)
    assert all(len(set(row)) == 5 for row in ids[tmp_path].tolist())


def test_exhaustive_tree_finds_what_exact_finds(built):
    folder, embeddings, _ = built
    query_emb = sample_queries(embeddings, 50)
    search = ScannSearch(embeddings, folder=folder, config=TREE).with_settings(EVERY_BLOCK)
    ids, scores = search.search(query_emb, 5)
    exact_ids, exact_scores = ExactSearch(embeddings).search(query_emb, 5)
    np.testing.assert_array_equal(ids, exact_ids)
    np.testing.assert_allclose(scores, exact_scores, rtol=1e-5)


@pytest.mark.parametrize("dead", [(), (1400, 1900)])
def test_blocks_since_the_build_are_found_exactly(tmp_path, dead):
    embeddings = clustered(BLOCKS, DIM)
    info = build_search_files("scann", embeddings[:1750], tmp_path, TREE)
    assert info["blocks"] == 1750 and files_serve("scann", 1750, BLOCKS, TREE)
    live = ~np.isin(np.arange(BLOCKS), dead)
    query_emb = sample_queries(embeddings, 400)
    exact_ids, exact_scores = ExactSearch(embeddings, live).search(query_emb, 5)
    search = ScannSearch(embeddings, live, folder=tmp_path, config=TREE)
    ids, _ = search.search(query_emb, 5)
    since = exact_ids >= 1750
    assert 50 < since.sum() < 500
    assert all(set(row[new]) <= set(found) for row, new, found in zip(exact_ids, since, ids, strict=True))
    ids, scores = search.with_settings(EVERY_BLOCK).search(query_emb, 5)
    np.testing.assert_array_equal(ids, exact_ids)
    np.testing.assert_allclose(scores, exact_scores, rtol=1e-5)


def test_files_serve_until_the_scoring_changes_or_the_tail_is_long():
    config = IndexConfig()
    cases = {(200, 300): True, (200, 301): False, (301, 601): True, (301, 602): False, (900, 1001): False}
    cases |= {(1001, 1301): True, (1001, 1302): False}
    assert {case: files_serve("scann", *case, config) for case in cases} == cases
    assert files_serve("exact", 1, 10**6, config) and files_serve("lsh", 1, 10**6, config)


def test_exhaustive_config_needs_no_files(tmp_path):
    embeddings = clustered(1500, DIM)
    config = IndexConfig(scann_leaves_to_search=1.0)
    assert build_search_files("scann", embeddings, tmp_path, config) == {"scoring": "brute_force", "recall_at_5": 1.0}


def test_scores_are_exact_products_of_bfloat16_rows(built):
    folder, embeddings, _ = built
    rounded = embeddings.astype(ml_dtypes.bfloat16)
    query_emb = sample_queries(embeddings, 6)
    ids, scores = ScannSearch(rounded, folder=folder, config=TREE).search(query_emb, 4)
    expected = np.einsum("bkd,bd->bk", rounded[ids].astype(np.float32), query_emb)
    np.testing.assert_allclose(scores, expected, rtol=1e-5)


@pytest.mark.parametrize("num_live", [0, 2, 40])
def test_finds_the_live_blocks_however_few(built, num_live):
    folder, embeddings, _ = built
    live = np.zeros(BLOCKS, bool)
    live[np.random.default_rng(0).choice(BLOCKS, num_live, replace=False)] = True
    query_emb = sample_queries(embeddings, 7)
    ids, scores = ScannSearch(embeddings, live, folder=folder, config=TREE).search(query_emb, 5)
    exact_ids, _ = ExactSearch(embeddings, live).search(query_emb, 5)
    assert ((ids >= 0) == (exact_ids >= 0)).all()
    assert live[ids[ids >= 0]].all() and np.isneginf(scores[ids < 0]).all()
    assert recall_at_k(ids, exact_ids) > 0.5 or num_live == 0


def test_more_blocks_asked_than_there_are(tmp_path):
    embeddings = clustered(3, DIM)
    ids, scores = ScannSearch(embeddings, folder=tmp_path, config=IndexConfig()).search(embeddings[:2], 5)
    assert (np.sort(ids[:, :3], axis=1) == [0, 1, 2]).all() and (ids[:, 3:] == -1).all()
    assert np.isneginf(scores[:, 3:]).all()
    assert ScannSearch(embeddings, folder=tmp_path, config=IndexConfig()).search(embeddings[:0], 5)[0].shape == (0, 5)


def test_threads_get_the_same_answers(built):
    folder, embeddings, _ = built
    search = ScannSearch(embeddings, folder=folder, config=TREE)
    query_emb = sample_queries(embeddings, 64)
    expected, answers = search.search(query_emb, 5)[0], []
    threads = [threading.Thread(target=lambda: answers.append(search.search(query_emb, 5)[0])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 4 and all((answer == expected).all() for answer in answers)


@pytest.mark.parametrize(
    "name", ["hashed_dataset.npy", "ah_codebook.pb", "serialized_partitioner.pb", "datapoint_to_token.npy"]
)
def test_truncated_file_is_one_clear_line(built, tmp_path, name):
    folder, embeddings, _ = built
    shutil.copytree(folder / "scann", tmp_path / "scann")
    os.truncate(tmp_path / "scann" / name, os.path.getsize(tmp_path / "scann" / name) // 2)
    with pytest.raises(ConfigError, match="scann is damaged .* delete this index version and build a new one") as error:
        ScannSearch(embeddings, folder=tmp_path, config=TREE)
    assert "\n" not in str(error.value)


def test_missing_or_foreign_files_are_refused(built, tmp_path):
    folder, embeddings, _ = built
    with pytest.raises(ConfigError, match="holds no ScaNN searcher"):
        ScannSearch(embeddings, folder=tmp_path, config=TREE)
    with pytest.raises(ConfigError, match="indexes 2000 blocks, the embeddings are of 1900"):
        ScannSearch(embeddings[:1900], folder=folder, config=TREE)


def test_write_failure_is_one_clear_line(tmp_path):
    (tmp_path / "scann").mkdir()
    (tmp_path / "scann" / "ah_codebook.pb").mkdir()  # cannot be written over
    with pytest.raises(ConfigError, match="could not write"):
        scann_search.build(clustered(400, DIM), folder=tmp_path, config=IndexConfig())


def test_missing_wheel_names_the_other_search(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "scann", None)
    with pytest.raises(ConfigError, match="--index.search=exact"):
        ScannSearch(clustered(5, DIM), folder=tmp_path, config=IndexConfig())
