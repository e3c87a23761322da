"""An opened run against NumPy on the index's own files: search, embeddings, what is pinned, and what errors say."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import realm_jax
from realm_jax.data.prepare import open_prepared
from realm_jax.index.claims import is_pinned
from realm_jax.index.store import IndexStore
from realm_jax.models import embedder
from realm_jax.training.finetuning import Finetuning
from tests.damage import flip_a_bit
from tests.serve.test_live import publish

QUERIES = ["When was the tower finished?", "Who crossed the river?", "the old harbour"]


@pytest.fixture(scope="module")
def run(pretrained_run):
    with realm_jax.open(pretrained_run.path) as found:
        yield found


@pytest.fixture
def workdir(pretrained_run, tmp_path, copy_run):
    return copy_run(pretrained_run, tmp_path / "run")


def embeddings_of(workdir) -> np.ndarray:
    return np.asarray(IndexStore(workdir.index_folder).latest().load_embeddings(), np.float32)


def test_a_search_is_that_of_all_inner_products(run, pretrained_run):
    scores = run.embed(QUERIES) @ embeddings_of(pretrained_run).T
    corpus = open_prepared(pretrained_run).knowledge
    for query, hits, row in zip(QUERIES, run.search(QUERIES, k=7), scores, strict=True):
        assert [hit.block for hit in hits] == np.argsort(-row, kind="stable")[:7].tolist()
        np.testing.assert_allclose([hit.score for hit in hits], np.sort(row)[::-1][:7], rtol=1e-4)
        block = corpus.block(hits[0].block)
        assert (hits[0].source_id, hits[0].title, hits[0].text) == (block.source_id, block.title, block.text)
        assert [hit.block for hit in run.search(query, k=7)] == [hit.block for hit in hits]


def test_more_blocks_than_there_are_and_none(run, pretrained_run):
    everything = len(embeddings_of(pretrained_run))
    assert len(run.search("river", k=everything + 5)) == everything
    assert run.search([]) == [] and run.embed([]).shape == (0, 16) == run.embed([], side="block").shape
    with pytest.raises(realm_jax.ConfigError, match="k=0"):
        run.search("river", k=0)


def test_blocks_are_embedded_as_the_index_has_them(run, pretrained_run):
    corpus, chosen = open_prepared(pretrained_run).knowledge, range(0, 300, 30)
    blocks = [corpus.block(block) for block in chosen]
    found = run.embed([(block.title, block.text) for block in blocks], side="block")
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, embeddings_of(pretrained_run)[list(chosen)], rtol=0.02, atol=0.02)


def test_each_side_has_its_own_tower(tuned_run):
    corpus, chosen = open_prepared(tuned_run).knowledge, np.arange(0, 300, 50)
    params = Finetuning.open(tuned_run, "cloze").best_params()["embedder"]
    tokens = jax.tree.map(jnp.asarray, corpus.embedder_tokens(chosen, corpus.block_len_tokens))
    towers = {side: embedder.embed(tuned_run.config.model, params, side, tokens) for side in ("query", "block")}
    blocks = [corpus.block(block) for block in chosen]
    with realm_jax.open(tuned_run.path) as tuned:
        found = tuned.embed([(block.title, block.text) for block in blocks], side="block")
    np.testing.assert_allclose(found, towers["block"], rtol=1e-4, atol=1e-4)
    assert not np.allclose(found, towers["query"], atol=1e-2)


@pytest.mark.parametrize(("texts", "side"), [(["a"], "block"), ([("a", "b")], "query")])
def test_texts_of_the_other_side_are_refused(run, texts, side):
    with pytest.raises(realm_jax.ConfigError, match="pass texts with side=.query., .title, text. pairs with"):
        run.embed(texts, side)


def test_a_fine_tuned_run_searches_with_what_answers(tuned_run, pretrained_run):
    with realm_jax.open(tuned_run.path) as tuned, realm_jax.open(pretrained_run.path) as before:
        answers = {answer.block: answer.retrieval_score for answer in tuned.ask(QUERIES[0]).answers}
        hits = {hit.block: hit.score for hit in tuned.search(QUERIES[0], k=len(answers))}
        assert hits == pytest.approx(answers, rel=1e-3)
        assert not np.allclose(tuned.embed(QUERIES), before.embed(QUERIES), atol=1e-3)


def test_what_it_searches_is_pinned_until_it_is_closed(workdir):
    (version,) = IndexStore(workdir.index_folder).versions()
    with realm_jax.open(workdir.path) as run:
        assert is_pinned(version.folder) and version.name in repr(run)
        assert not run.refresh()
        newer = publish(workdir, 9)
        assert run.fill("The [MASK].").source.version == version.name  # it follows nothing by itself
        assert run.refresh() and not run.refresh()
        assert run.fill("The [MASK].").source.version == newer.name
        assert is_pinned(newer.folder) and not is_pinned(version.folder)
    assert not is_pinned(newer.folder)


def test_answers_come_from_what_was_newest_when_it_was_opened(tuned_run, tmp_path, copy_run):
    workdir = copy_run(tuned_run, tmp_path / "run")
    with realm_jax.open(workdir.path) as run, realm_jax.open(workdir.path) as other:
        (version,) = IndexStore(workdir.index_folder).versions()
        other.add([{"id": "larks", "title": "Lark House", "text": "Lark House was built in 1911 by Ida Brandt."}])
        assert run.ask(QUERIES[0]).source.version == version.name != other.ask(QUERIES[0]).source.version
        assert other.fill("The [MASK].").source.blocks == run.fill("The [MASK].").source.blocks + 1


def test_an_older_version_can_be_searched(workdir):
    (old,) = IndexStore(workdir.index_folder).versions()
    before = [(hit.block, hit.score) for hit in realm_jax.open(workdir.path).search(QUERIES[0])]
    newer = publish(workdir, 9)
    with realm_jax.open(workdir.path) as run, realm_jax.open(workdir.path, version=old.name) as older:
        assert [version.name for version in run.index.versions()] == [old.name, newer.name]
        flip_a_bit(publish(workdir, 10).folder / "manifest.json")
        assert [version.name for version in run.index.versions()] == [old.name, newer.name]
        assert [(hit.block, hit.score) for hit in older.search(QUERIES[0])] == before
        assert [hit.score for hit in run.search(QUERIES[0])] != [score for _, score in before]
    with pytest.raises(realm_jax.ConfigError, match=f"no index version step-7: .*{old.name}"):
        realm_jax.open(workdir.path, version="step-7")


def test_what_is_added_is_found_and_what_is_deleted_is_not(workdir):
    with realm_jax.open(workdir.path) as run:
        everything = len(embeddings_of(workdir))
        added = run.add([{"id": "larks", "title": "Lark House", "text": "Lark House was built in 1911 by Ida Brandt."}])
        assert added.added == ("larks",) and added.blocks == 1
        assert is_pinned(IndexStore(workdir.index_folder).latest().folder)
        found = {hit.source_id: hit for hit in run.search("Lark House", k=everything + 1)}
        (embedding,) = run.embed([(found["larks"].title, found["larks"].text)], side="block")
        assert found["larks"].score == pytest.approx(float(run.embed(["Lark House"])[0] @ embedding), rel=0.02)
        with pytest.raises(realm_jax.ConfigError, match="record 1: id 'larks' is in the corpus already"):
            run.add([{"id": "larks", "title": "Lark House", "text": "Another text."}])
        assert run.delete("larks").deleted == ("larks",)
        assert "larks" not in {hit.source_id for hit in run.search("Lark House", k=everything + 1)}
        with pytest.raises(realm_jax.ConfigError, match="no record with the id 'nobody'") as error:
            run.delete(["nobody"])
        assert "--delete" not in str(error.value)


@pytest.mark.parametrize("records", [[], [{"id": "a", "title": "b"}]])
def test_a_record_that_lacks_something_changes_nothing(workdir, records):
    with realm_jax.open(workdir.path) as run:
        with pytest.raises(realm_jax.ConfigError, match="id, title, text"):
            run.add(records)
        assert len(run.index.versions()) == 1


def test_what_a_run_lacks_is_said_with_its_remedy(run, tiny_run, tmp_path):
    errors = [
        (lambda: run.ask("Who?"), f"realm finetune --workdir={run.workdir.path} --dataset=cloze"),
        (lambda: run.summary, "realm run --workdir="),
        (lambda: run.report(), "realm run --workdir="),
        (lambda: run.evaluation(), "realm eval --workdir="),
        (lambda: run.metrics("ict"), "no metrics of ict"),
        (lambda: run.curves("nothing"), "no curve nothing"),
        (lambda: realm_jax.open(run.workdir.path, finetuning="wq"), "realm finetune"),
        (lambda: realm_jax.open(tmp_path), "is no workdir"),
        (lambda: realm_jax.evaluate(run.workdir.path, dataset="cloze"), "realm finetune"),
        (lambda: realm_jax.finetune(run.workdir.path, steps_per_epoch=3), "steps_per_epoch is no setting"),
    ]
    with realm_jax.open(tiny_run.path) as empty:
        errors += [(lambda: empty.search("Who?"), "realm run"), (lambda: empty.fill("[MASK]"), "realm run")]
        errors += [(lambda: empty.examples(), "realm run"), (lambda: empty.embed(["a"]), "realm run")]
        for call, said in errors:
            with pytest.raises(realm_jax.ConfigError) as error:
                call()
            assert said in str(error.value) and "\n" not in str(error.value)
        assert empty.index.versions() == [] and empty.heldout(2)
