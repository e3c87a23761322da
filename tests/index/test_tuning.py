"""What `realm tune` chooses reaches the recall, is written into the run, and is what the next search uses."""

import dataclasses
import itertools

import numpy as np
import pytest

from realm_jax import config_json, lock
from realm_jax.commands import tune as command
from realm_jax.config import ConfigError
from realm_jax.data.prepare import open_prepared
from realm_jax.index import scann, tuning
from realm_jax.index.index_builder import IndexBuilder
from realm_jax.index.loaded_index import load
from realm_jax.index.search import sample_queries
from realm_jax.index.store import IndexStore
from realm_jax.training import phases
from realm_jax.workdir import Workdir, read_json, write_json

pytest.importorskip("scann", reason="no ScaNN wheel for this platform")
K, RECALL = 5, 0.9


@pytest.fixture(autouse=True)
def small_limits(monkeypatch):
    """The corpora of tests are small: at the real limits, all of them would be brute force."""
    monkeypatch.setattr(scann, "BRUTE_FORCE_LIMIT", 20)
    monkeypatch.setattr(scann, "TREE_LIMIT", 40)


@pytest.fixture(scope="module")
def built(tiny_run, tmp_path_factory, copy_run):
    """A run with one index version, a tree of leaves; tests only read it."""
    config = dataclasses.replace(tiny_run.config, index=dataclasses.replace(tiny_run.config.index, search="scann"))
    workdir = copy_run(Workdir(tiny_run.path, config), tmp_path_factory.mktemp("runs") / "scann")
    write_json(workdir.config_file, config_json.to_json(config))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scann, "BRUTE_FORCE_LIMIT", 20)
        patch.setattr(scann, "TREE_LIMIT", 40)
        build(workdir, 0)
    return workdir


@pytest.fixture
def scann_run(built, tmp_path, copy_run):
    """A copy of it."""
    return copy_run(built, tmp_path / "run")


def build(workdir, step):
    params = phases.first_params(workdir, ("embedder",))["embedder"]
    return IndexBuilder(workdir.config, open_prepared(workdir), IndexStore(workdir.index_folder)).build(step, params)


def tune(workdir, *flags):
    command.main([f"--workdir={workdir.path}", *flags])
    return Workdir.open(workdir.path)


def slow_recall(workdir, version):
    """Recall@5 of the run's own search of a version, for its masked sentences: against all products, in NumPy."""
    data, embeddings = open_prepared(workdir), np.array(version.load_embeddings(), np.float64)
    params = phases.first_params(workdir, ("embedder",))["embedder"]
    query_emb, _ = tuning.query_embeddings(version, data, workdir.config, params, 256)
    best = np.argsort(-query_emb @ embeddings.T, axis=1, kind="stable")[:, :K]
    ids, _ = load(version, data.knowledge, workdir.config.index, "scann").search.search(query_emb, K)
    return np.mean([len(set(a) & set(b)) / K for a, b in zip(ids.tolist(), best.tolist(), strict=True)])


@pytest.fixture
def queries_all_over(monkeypatch):
    """An untrained tower embeds all sentences alike, and all find the same leaf: blocks with noise do not."""
    monkeypatch.setattr(tuning, "masked_sentences", lambda *args: None)


@pytest.mark.usefixtures("queries_all_over")
def test_the_next_search_of_the_run_reaches_the_recall(scann_run, capsys):
    blind = {"scann_leaves_to_search": 0.01, "scann_reorder": 10}
    index = dataclasses.replace(scann_run.config.index, **blind)
    version = IndexStore(scann_run.index_folder).latest()
    assert version.manifest["search_info"]["scoring"] == "tree_ah"
    before = Workdir(scann_run.path, dataclasses.replace(scann_run.config, index=index))
    tuned = tune(scann_run, f"--recall={RECALL}", "--queries=256")
    assert slow_recall(before, version) < 0.8 < RECALL - 0.03 <= slow_recall(tuned, version)
    shown, kept = capsys.readouterr().out, read_json(tuned.tuned_file)
    assert f"next: realm eval --workdir={tuned.path}" in shown and "block embeddings" in shown
    assert kept["settings"] == {name: getattr(tuned.config.index, name) for name in kept["settings"]}
    assert kept["version"] == version.name and kept["recall_wanted"] == RECALL and kept["recall_at_5"] > RECALL - 0.05
    (chosen,) = [line for line in shown.splitlines() if "←" in line]
    assert f"{100 * tuned.config.index.scann_leaves_to_search:g}% | {tuned.config.index.scann_reorder} |" in chosen


def test_both_halves_of_the_queries_have_as_much_noise():
    blocks = np.random.default_rng(2).standard_normal((300, 16)).astype(np.float32)
    query_emb = sample_queries(blocks, 256)
    same = np.isclose(query_emb[:, None], blocks).all(axis=2).any(axis=1)  # the query is a block, without noise
    choosing, judging = tuning.halves(256)
    assert sorted([*choosing, *judging]) == list(range(256)) and len(choosing) == len(judging)
    assert same.mean() == 0.5 and abs(same[choosing].mean() - same[judging].mean()) < 0.2


def test_the_next_index_version_is_built_with_them(scann_run):
    tuned = tune(scann_run, f"--recall={RECALL}", "--queries=256")
    info = build(tuned, 1).manifest["search_info"]
    assert info["leaves_to_search"] == np.ceil(info["leaves"] * tuned.config.index.scann_leaves_to_search)


def test_the_fastest_that_reaches_the_recall_is_chosen(scann_run):
    data, version = open_prepared(scann_run), IndexStore(scann_run.index_folder).latest()
    search = tuning.open_tunable(version, data, scann_run.config.index)
    query_emb = np.random.default_rng(1).standard_normal((200, 16)).astype(np.float32)
    exact_ids = tuning.exact_best(version, data, query_emb)
    best = np.argsort(-query_emb @ np.array(version.load_embeddings()).T, axis=1)[:, :K]
    np.testing.assert_array_equal(exact_ids, best)
    found = tuning.tune(search, query_emb, exact_ids, RECALL)
    reaching = [row for row in found.rows if row.recall >= RECALL]
    assert found.chosen.queries_per_s == max(row.queries_per_s for row in reaching)
    leaves = [row.settings["scann_leaves_to_search"] for row in found.rows]
    assert leaves == sorted(leaves)
    for _, rows in itertools.groupby(found.rows, key=lambda row: row.settings["scann_leaves_to_search"]):
        assert [row.recall >= RECALL for row in rows][:-1].count(True) == 0  # the first that reaches it ends the row


@pytest.mark.usefixtures("queries_all_over")
def test_a_recall_that_cannot_be_reached_writes_nothing(scann_run, monkeypatch, capsys):
    monkeypatch.setattr(tuning, "LEAVES", (0.05,))
    config = scann_run.config_file.read_text()
    with pytest.raises(
        ConfigError, match=r"no settings of ScaNN reach recall@5 1.0 here, the best 0\.\d+: nothing was"
    ):
        tune(scann_run, "--recall=1.0", "--queries=64")
    assert "| 5% |" in capsys.readouterr().out
    assert scann_run.config_file.read_text() == config and not scann_run.tuned_file.exists()


def test_a_tuned_run_goes_on_under_the_flags_it_was_begun_with(scann_run):
    tuned = tune(scann_run, f"--recall={RECALL}", "--queries=256")
    for flags in (scann_run.config, tuned.config):
        assert Workdir.create(scann_run.path, flags).config.index == tuned.config.index
    assert Workdir.open(scann_run.path).config == tuned.config
    other = dataclasses.replace(tuned.config.index, scann_leaves_to_search=0.77)
    with pytest.raises(ConfigError, match="made with another config .*scann_leaves_to_search: 0.77 here"):
        Workdir.create(scann_run.path, dataclasses.replace(tuned.config, index=other))
    again = tune(tuned, "--recall=0.5", "--queries=256")
    assert Workdir.create(scann_run.path, scann_run.config).config.index == again.config.index


def test_a_run_in_training_is_told(scann_run, capsys):
    with lock.only_one(scann_run.trainer_lock, "it is being trained"):
        tune(scann_run, "--recall=0.5", "--queries=64")
    shown = capsys.readouterr().out
    assert "this run is being trained: its trainer and builder keep their settings" in shown
    assert "masked sentences" in shown


def test_an_index_with_hashes_alone_tunes_the_reordering(new_run, monkeypatch):
    monkeypatch.setattr(scann, "TREE_LIMIT", 10**6)
    workdir = new_run(index={"search": "scann"})
    version = build(workdir, 0)
    tuned = tune(workdir, "--recall=0.95", "--queries=256")
    assert list(read_json(tuned.tuned_file)["settings"]) == ["scann_reorder"]
    assert slow_recall(tuned, version) > 0.9
    assert tuned.config.index.scann_leaves_to_search == workdir.config.index.scann_leaves_to_search


def test_what_cannot_be_tuned_says_why(new_run, pretrained_run, monkeypatch):
    with pytest.raises(ConfigError, match=r"has no index version yet: run realm run --workdir=\S+run$"):
        tune(new_run())
    with pytest.raises(ConfigError, match="built for index.search=exact: it scores every block: there is nothing to"):
        tune(pretrained_run)
    monkeypatch.setattr(scann, "BRUTE_FORCE_LIMIT", 10**6)
    workdir = new_run("small", index={"search": "scann"})
    build(workdir, 0)
    with pytest.raises(ConfigError, match=r"blocks, and ScaNN scores every one .*: there is nothing to tune"):
        tune(workdir)


@pytest.mark.parametrize(
    ("flag", "fix"), [("--recall=0", "a share in"), ("--recall=99", "0.99"), ("--queries=3", "64")]
)
def test_bad_flags_name_the_fix(flag, fix):
    with pytest.raises(ConfigError, match=fix):
        command.main([flag])


def test_without_masked_sentences_blocks_with_noise_are_the_queries(scann_run, monkeypatch, capsys):
    monkeypatch.setattr(tuning, "masked_sentences", lambda *_: None)
    tuned = tune(scann_run, "--recall=0.8", "--queries=64")
    assert read_json(tuned.tuned_file)["queries_are"].startswith("block embeddings")
