"""Evaluation over a sample of a corpus: the newest state's recall is that over all blocks, and every report says it."""

import dataclasses

import numpy as np
import pytest
from rich.console import Console

from realm_jax.config import ConfigError
from realm_jax.data import corpus_writer
from realm_jax.data.prepare import open_prepared
from realm_jax.data.questions import datasets
from realm_jax.eval import block_sample, evaluation, zero_shot
from realm_jax.eval.last_screen import last_screen
from realm_jax.eval.request import Request
from realm_jax.eval.summary import per_example_file, summarize
from realm_jax.index.loaded_index import exact_index
from realm_jax.training import phases
from realm_jax.workdir import Workdir, read_json

FEW = 20
"""Blocks that are drawn."""


def with_blocks(workdir: Workdir, count: int) -> Workdir:
    """The same folder with another `pretrain.eval_blocks`, and few examples."""
    pretrain = dataclasses.replace(workdir.config.pretrain, eval_blocks=count, recall_examples=40, eval_examples=8)
    return Workdir(workdir.path, dataclasses.replace(workdir.config, pretrain=pretrain))


def sized(config, count, seed=0):
    return dataclasses.replace(config, seed=seed, pretrain=dataclasses.replace(config.pretrain, eval_blocks=count))


def test_the_draw_is_a_function_of_seed_and_corpus_to_which_others_are_added(new_run):
    run = new_run()
    corpus, config = open_prepared(run).knowledge, sized(run.config, FEW)
    plain = block_sample.draw(config, corpus, [])
    assert len(plain.blocks) == plain.drawn == FEW and plain.num_live == corpus.num_blocks
    np.testing.assert_array_equal(plain.blocks, block_sample.draw(config, corpus, []).blocks)
    assert set(plain.blocks) != set(block_sample.draw(sized(run.config, FEW, seed=1), corpus, []).blocks)
    wanted = np.setdiff1d(np.arange(corpus.num_blocks), plain.blocks)[:3]
    more = block_sample.draw(config, corpus, [np.append(wanted, -1), wanted[None, :2]])
    assert set(more.blocks) == set(plain.blocks) | set(wanted) and (np.diff(more.blocks) > 0).all()
    less = corpus_writer.delete(wanted[:1].tolist(), corpus.folder)
    left = block_sample.draw(config, less, [wanted])
    assert wanted[0] not in left.blocks and wanted[1] in left.blocks and left.num_live == corpus.num_blocks - 1


def test_an_index_of_some_blocks_finds_what_that_of_all_finds_among_them(tiny_run):
    data, params = open_prepared(tiny_run), phases.first_params(tiny_run)["embedder"]
    blocks = np.sort(np.random.default_rng(0).choice(data.knowledge.num_blocks, 37, replace=False))
    some = exact_index(tiny_run.config, data.knowledge, params, "some", blocks)
    whole = exact_index(tiny_run.config, data.knowledge, params, "all")
    query_emb = np.random.default_rng(1).normal(size=(9, tiny_run.config.model.projection_dim)).astype(np.float32)
    ids, scores = some.search.search(query_emb, 10)
    ranked, _ = whole.search.search(query_emb, data.knowledge.num_blocks)
    assert ids.tolist() == [[i for i in row if i in set(blocks)][:10] for row in ranked.tolist()]
    expected = np.einsum("qd,qkd->qk", query_emb, whole.embeddings_of(ids))
    np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(some.embeddings_of(ids), whole.embeddings_of(ids), atol=2e-5)


def test_recall_of_questions_over_a_sample(pretrained_run, monkeypatch):
    monkeypatch.setattr(zero_shot, "KS", (1, 3))  # or all of the tiny corpus is found for some question
    asked = datasets.load("cloze", "test", run=open_prepared(pretrained_run), config=pretrained_run.config)[:6]
    whole = zero_shot.question_recall(pretrained_run, asked)
    found = zero_shot.question_recall(with_blocks(pretrained_run, FEW), asked)
    assert whole.sample is None and FEW < len(found.sample.blocks) < found.sample.num_live
    assert list(found.table) == list(whole.table) == ["first weights", "after ICT", "after REALM", "BM25"]
    for name in ("after REALM", "BM25"):  # whose own near misses are in the sample
        assert found.table[name] == whole.table[name]
    np.testing.assert_array_equal(found.ranking.blocks, whole.ranking.blocks)
    assert found.ranking.retriever == f"the index of step {pretrained_run.config.pretrain.steps}"


def test_recall_of_held_out_sentences_over_a_sample(pretrained_run):
    (whole, nothing), (found, sample) = (
        zero_shot.heldout_recall(with_blocks(pretrained_run, count)) for count in (0, FEW)
    )
    assert nothing is None and FEW < len(sample.blocks) < sample.num_live
    assert found["after REALM"] == whole["after REALM"]
    for name in ("first weights", "after ICT"):
        assert all(found[name][key].mean >= whole[name][key].mean for key in whole[name])
    assert any(found["first weights"][key].mean > whole["first weights"][key].mean for key in whole["first weights"])


@pytest.mark.slow
def test_the_summary_and_its_pages_name_the_sample(pretrained_run, copy_run, tmp_path):
    runs = {count: with_blocks(copy_run(pretrained_run, tmp_path / f"{count}"), count) for count in (0, FEW)}
    whole, found = (summarize(run, {}) for run in runs.values())
    assert "sample" not in whole and list(found)[-1] == "sample"
    sample, says = found["sample"], found["sample"]["says"]
    assert says.startswith(f"over a sample of {sample['blocks']:,} of {sample['of']:,} blocks: {FEW} drawn uniformly")
    values = [np.load(per_example_file(run, "after REALM").open("rb")) for run in runs.values()]
    for name in ("plain_recall@5", "hard_recall@5", "answer_retrieved"):
        np.testing.assert_array_equal(values[0][name], values[1][name])
    for file in ("report.md", "report.html"):
        texts = [(run.path / file).read_text(encoding="utf-8") for run in runs.values()]
        assert "over a sample of" not in texts[0] and f"The corpus is searched {says}." in texts[1]
    console = Console(width=1000)
    with console.capture() as shown:
        console.print(last_screen(runs[FEW]))
    assert says in shown.get()


def test_states_on_request(pretrained_run, copy_run, tmp_path):
    run = with_blocks(copy_run(pretrained_run, tmp_path / "run"), FEW)
    recall = evaluation.heldout_recall(run, Request(states=("realm",)))
    assert list(recall.table) == ["after REALM"] and recall.sample.startswith("over a sample of")
    assert read_json(recall.file)["sample"]["says"] == recall.sample
    with pytest.raises(ConfigError, match="--states=reaml is unknown: use first, ict, realm"):
        evaluation.check(Request(states=("reaml",)))
    (run.phase("pretrain") / "DONE").unlink()
    with pytest.raises(ConfigError, match="has no state realm yet: pass --states=first,ict"):
        evaluation.heldout_recall(run, Request(states=("realm",)))
