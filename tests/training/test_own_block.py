"""A query's own block is never its candidate (§3.4), shown on an index that has it first for every query.

Each article of this corpus is one block with one sentence and one date: one query a block. A query's block is given the
query's own embedding. All embeddings have the same norm, since in the first weights the last LayerNorm has one gain and
no bias, so no other block can have a larger inner product with the query.
"""

import json
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest

from realm_jax import parallel
from realm_jax.data.pipeline import Examples, MaskedSentences
from realm_jax.data.prepare import prepare
from realm_jax.index.publish import publish
from realm_jax.index.store import IndexStore
from realm_jax.models import embedder
from realm_jax.training import phases
from realm_jax.training.pretrain_task import PretrainTask
from realm_jax.workdir import Workdir

ARTICLES, BATCH, CANDIDATES = 64, 8, 4
WORDS = ["amber", "birch", "cedar", "dover", "elm", "fern", "grove", "heath"]


class Case(NamedTuple):
    """A task over such an index, and the queries of its first epoch in their order, without the first batch."""

    task: PretrainTask
    params: dict
    query_emb: np.ndarray
    own: np.ndarray
    """int [queries]: ordinal of each query's block in the knowledge corpus."""


@pytest.fixture(scope="module")
def articles():
    """Titles and texts, no two alike once the year is masked."""
    mills = [f"{first} {second} mill" for first in WORDS for second in WORDS]
    return [(mill, f"The {mill} was built in {1800 + i}.") for i, mill in enumerate(mills)]


def write(path, articles, prefix):
    lines = [json.dumps({"id": f"{prefix}{i}", "title": t, "text": x}) for i, (t, x) in enumerate(articles)]
    path.write_text("\n".join(lines))
    return str(path)


@pytest.fixture
def make_case(tiny_config, articles, tmp_path):
    """Makes cases: `make_case("scann", other_corpus=True, ban_source_block=False)`."""

    def make(search, *, other_corpus, years=1700, **pretrain) -> Case:
        text = write(tmp_path / "text.jsonl", articles, "x")
        others = [("Elsewhere", f"Something else happened in {years + i}.") for i in range(9)]
        knowledge = write(tmp_path / "z.jsonl", [*others, *reversed(articles)], "z") if other_corpus else text
        corpus = replace(
            tiny_config.corpus, knowledge=knowledge, pretrain_text=text, heldout_fraction=0.0, tagger="rules"
        )
        config = replace(
            tiny_config,
            corpus=corpus,
            model=replace(tiny_config.model, vocab_size=300),
            pretrain=replace(tiny_config.pretrain, batch_size=BATCH, num_candidates=CANDIDATES, **pretrain),
            index=replace(tiny_config.index, search=search),
        )
        workdir = Workdir.create(tmp_path / f"run{len(pretrain)}", config)
        data, params = prepare(workdir), phases.first_params(workdir)
        sentences = MaskedSentences(data.text, data.special, config.pretrain, 0.0)
        assert len(sentences) == ARTICLES == data.text.num_blocks  # one query a block
        queries = Examples(len(sentences), sentences.example, config.seed).batch(0, ARTICLES)
        query_emb = np.asarray(embedder.embed(config.model, params["embedder"], "query", queries.query))
        own = own_ordinals(data, queries.source_block)
        embeddings = np.asarray(np.random.default_rng(0).normal(size=(data.knowledge.num_blocks, query_emb.shape[1])))
        embeddings *= np.linalg.norm(query_emb[0]) / np.linalg.norm(embeddings, axis=1, keepdims=True)
        embeddings[own] = query_emb
        store = IndexStore(workdir.index_folder)
        with store.begin(0) as draft:
            stored = draft.embeddings(*embeddings.shape, "float32")
            stored[:] = embeddings
            publish(draft, store, stored, data.knowledge, config.index, tower=None, embedded_by=None)
        return Case(PretrainTask(config, data, store, params), params, query_emb[BATCH:], own[BATCH:])

    return make


def own_ordinals(data, source_block) -> np.ndarray:
    """Where each query's block stands in the knowledge corpus, by its text."""
    places = {data.knowledge.block(i).text: i for i in range(data.knowledge.num_blocks)}
    return np.array([places[data.text.block(int(block)).text] for block in source_block])


def candidates_of(case: Case) -> tuple[np.ndarray, np.ndarray]:
    """What the trainer's stream proposes for every query, and what its index finds for them."""
    stream = case.task.stream({})
    params, proposed = parallel.replicate(case.params), []
    try:
        found, _ = stream._index.loaded.search.search(case.query_emb, CANDIDATES)
        for _ in range(1, ARTICLES // BATCH):
            stream.take(params)
            proposed += stream.state()["candidates"]  # those of the next batch
    finally:
        stream.close()
    return np.array(proposed), found


@pytest.mark.parametrize("other_corpus", [False, True], ids=["X is Z", "X is not Z"])
@pytest.mark.parametrize("search", ["exact", "scann", "lsh"])
def test_the_own_block_is_taken_out_of_what_was_found(make_case, search, other_corpus):
    case = make_case(search, other_corpus=other_corpus)
    proposed, found = candidates_of(case)
    assert (found[:, 0] == case.own).all()  # it is there, and first, for each of the queries
    assert not (proposed == case.own[:, None]).any()
    np.testing.assert_array_equal(proposed, found[:, 1:])  # and nothing else is missing


def test_the_own_block_may_be_allowed(make_case):
    case = make_case("exact", other_corpus=False, ban_source_block=False)
    proposed, _ = candidates_of(case)
    assert (proposed[:, 0] == case.own).all()


def test_another_block_with_the_span_is_read_however_far_down(make_case):
    plain, _ = candidates_of(make_case("exact", other_corpus=True, years=1860))
    with_answer = make_case("exact", other_corpus=True, years=1860, answer_depth=100)
    proposed, _ = candidates_of(with_answer)
    data, has = with_answer.task._data, 0
    for own, before, after in zip(with_answer.own, plain, proposed, strict=True):
        year = data.knowledge.block(own).text[-5:-1]
        (*others,) = (i for i in range(9) if year in data.knowledge.block(i).text)
        expected = [*before[:-1], *others] if others and others[0] not in before else before
        assert after.tolist() == list(expected)
        has += len(others)
    assert has == 4 and (plain != proposed).any()  # 1860 to 1863
