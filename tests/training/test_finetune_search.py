"""Which search finds the beam of fine-tuning, on which devices; how much of the exact beam it finds."""

import dataclasses

import numpy as np
import pytest
from etils import epath

from realm_jax import parallel
from realm_jax.config import ConfigError
from realm_jax.data.prepare import open_prepared
from realm_jax.data.questions import datasets
from realm_jax.eval import evaluation
from realm_jax.eval.request import Request
from realm_jax.index import exact, scann
from realm_jax.index.exact import ExactSearch, search_in_parts
from realm_jax.index.index_builder import IndexBuilder, with_search
from realm_jax.index.loaded_index import LoadedIndex
from realm_jax.index.scann import ScannSearch
from realm_jax.index.store import IndexStore
from realm_jax.index.version import Version
from realm_jax.training import finetune_search
from realm_jax.training.finetune_search import EXACT_BLOCKS, beam_recall, search_to_build, search_to_use
from realm_jax.training.finetune_task import FinetuneTask
from realm_jax.training.finetuning import Finetuning
from realm_jax.workdir import Workdir, read_json
from tests.tuned import finetune_by_hand

LARGE = 13_353_718


def with_settings(config, *, wanted="auto", built="scann"):
    return dataclasses.replace(
        config,
        finetune=dataclasses.replace(config.finetune, search=wanted),
        index=dataclasses.replace(config.index, search=built),
    )


def version_of(blocks: int, search: str, dtype="float32"):
    manifest = {"num_blocks": blocks, "dim": 128, "dtype": dtype, "search": search}
    return Version(epath.Path("W/index/step-1"), {**manifest, "step": 1, "finished": 0.0, "files": {}})


@pytest.mark.parametrize(
    ("wanted", "blocks", "built", "memory_gib", "expected"),
    [
        ("auto", EXACT_BLOCKS, "scann", 0, "exact"),  # small
        ("auto", EXACT_BLOCKS + 1, "scann", 0, "scann"),  # a CPU
        ("auto", LARGE, "scann", 0, "scann"),
        ("auto", LARGE, "scann", 8 * 16, "exact"),  # 6.8 GB of 128
        ("auto", LARGE, "scann", 16, "scann"),  # more than a quarter
        ("auto", LARGE, "exact", 0, "exact"),  # nothing else was built
        ("exact", LARGE, "scann", 0, "exact"),
        ("scann", 100, "scann", 8 * 16, "scann"),
    ],
)
def test_which_search_is_used(tiny_config, monkeypatch, wanted, blocks, built, memory_gib, expected):
    monkeypatch.setattr(parallel, "memory_bytes", lambda: memory_gib << 30)
    assert search_to_use(with_settings(tiny_config, wanted=wanted), version_of(blocks, built)) == expected


def test_bfloat16_takes_half_the_room(tiny_config, monkeypatch):
    monkeypatch.setattr(parallel, "memory_bytes", lambda: 16 << 30)
    assert search_to_use(with_settings(tiny_config), version_of(LARGE, "scann", "bfloat16")) == "exact"


def test_scann_of_a_version_without_it_is_an_error(tiny_config):
    with pytest.raises(ConfigError, match=r"step-1 was built for index.search=exact: pass --finetune.search=exact"):
        search_to_use(with_settings(tiny_config, wanted="scann"), version_of(100, "exact"))


@pytest.mark.parametrize(
    ("wanted", "blocks", "of_run", "expected"),
    [
        ("auto", EXACT_BLOCKS, "scann", "exact"),
        ("auto", EXACT_BLOCKS + 1, "scann", "scann"),
        ("auto", LARGE, "exact", "exact"),
        ("exact", LARGE, "scann", "exact"),
        ("scann", 100, "exact", "scann"),
    ],
)
def test_which_search_versions_of_a_fine_tuning_are_built_for(tiny_config, wanted, blocks, of_run, expected):
    assert search_to_build(with_settings(tiny_config, wanted=wanted, built=of_run), blocks) == expected


def test_recall_of_the_beam_against_a_sort(monkeypatch):
    monkeypatch.setattr(exact, "PART_ROWS", 64)
    rng = np.random.default_rng(0)
    embeddings, query_emb = rng.normal(size=(500, 16)).astype(np.float32), rng.normal(size=(21, 16)).astype(np.float32)
    live = rng.random(500) < 0.9
    best = np.argsort(-np.where(live, query_emb @ embeddings.T, -np.inf), axis=1)[:, :40]

    class Partial:
        """Finds every other block of the best, and others instead."""

        def search(self, queries, k):
            rows = [int(np.flatnonzero((query_emb == query).all(1))[0]) for query in queries]
            found = best[rows].astype(np.int32)
            found[:, ::2] = np.flatnonzero(~live)[0]
            return found, np.zeros(found.shape, np.float32)

    ids, _ = search_in_parts(embeddings, live, query_emb, 40)
    np.testing.assert_array_equal(ids, best)
    whole = LoadedIndex(ExactSearch(embeddings, live), embeddings)
    assert beam_recall(whole, live, query_emb, 40) == 1.0
    assert beam_recall(LoadedIndex(Partial(), embeddings), live, query_emb, 40) == 0.5


@pytest.fixture
def run(pretrained_run, copy_run, tmp_path, monkeypatch) -> Workdir:
    """A run whose index was built for ScaNN, with hashes although it is small, and the settings of a fine-tuning."""
    monkeypatch.setattr(scann, "BRUTE_FORCE_LIMIT", 20)
    copied = copy_run(pretrained_run, tmp_path / "run")
    config = with_settings(copied.config, wanted="scann")
    run = Workdir(copied.path, dataclasses.replace(config, finetune=dataclasses.replace(config.finetune, epochs=1)))
    store = IndexStore(run.index_folder)
    (version,) = store.versions()
    version.folder.rmtree()
    params, source = (
        Finetuning(run, "cloze", "cloze", run.config.finetune).first_params(),
        version.manifest["embedded_by"],
    )
    IndexBuilder(run.config, open_prepared(run), store).build(version.step, params["embedder"], embedded_by=source)
    return run


@pytest.mark.slow
def test_training_and_answers_search_by_scann_and_the_report_says_how_well(run):
    finetuning = finetune_by_hand(run)
    data, first = open_prepared(run), finetuning.first_params()
    store = finetuning.index_store(data, first)
    asked = datasets.load("cloze", "train", run=data, config=run.config)
    task = FinetuneTask(finetuning.config, data, asked, store, first, lambda params: 0.0, finetuning.folder)
    stream = task.stream({})
    assert isinstance(stream._index.loaded.search, ScannSearch)
    stream.close()
    finetune_search.measure_search(finetuning.config, data, store, first, asked, finetuning.folder)
    found = read_json(finetuning.folder / "search.json")
    assert 0.5 < found["recall"] <= 1.0 and found["beam"] == data.knowledge.num_blocks
    request = Request(dataset="cloze", questions=4)
    answers = evaluation.answer(run, "cloze", request, evaluation.ask(request, run))
    says = f"ScaNN finds {100 * found['recall']:.1f}% of the {found['beam']:,} best blocks of 200 training questions"
    assert answers.results["facts"]["search"] == says and f"search: {says}" in answers.markdown


def test_versions_of_a_block_tower_that_learns_keep_the_search_of_the_first(run):
    settings = dataclasses.replace(run.config.finetune, train_retriever="both")
    finetuning = Finetuning.create(run, "both", "cloze", settings)
    data, first = open_prepared(run), finetuning.first_params()
    store = finetuning.index_store(data, first)
    assert store.folder != run.index_folder and store.latest().manifest["search"] == "scann"
    follower = IndexBuilder(with_search(run.config, "exact"), data, store, finetuning.phase)  # as in another process
    version = follower.build(3, first["embedder"])
    assert version.manifest["search"] == "scann" and (version.folder / "scann").exists()


@pytest.mark.slow
def test_a_large_corpus_is_not_embedded_for_each_evaluation_of_a_block_tower_that_learns(run):
    """The newest version is searched; the retrievers that have none search a sample, which the report names."""
    pretrain = dataclasses.replace(run.config.pretrain, eval_blocks=20)
    settings = dataclasses.replace(run.config.finetune, train_retriever="both")
    run = Workdir(run.path, dataclasses.replace(run.config, pretrain=pretrain, finetune=settings))
    finetuning = finetune_by_hand(run)
    data, first = open_prepared(run), finetuning.first_params()
    store = finetuning.index_store(data, first)
    index = finetuning.index_of(data, first, store)
    assert index.version.name == store.latest().name and isinstance(index.search, ScannSearch)
    request = Request(dataset="cloze", questions=4, baselines=("ict",))
    facts = evaluation.answer(run, "cloze", request, evaluation.ask(request, run)).results["facts"]
    says = facts["retrievers without an index version"]
    assert says.startswith("search over a sample of") and "20 drawn uniformly" in says
    assert says.endswith("found by the fine-tuned retriever; recall over a sample is higher than over all")
