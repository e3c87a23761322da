"""Zero-shot retrieval of questions made from the corpus, against scores and ranks computed one by one."""

import json

import jax
import numpy as np
import pytest

from realm_jax.batches import Tokens
from realm_jax.config import ConfigError
from realm_jax.data.prepare import open_prepared
from realm_jax.data.questions import questions
from realm_jax.eval import zero_shot
from realm_jax.eval.baselines import bm25
from realm_jax.models import embedder
from realm_jax.training import phases

NUM_QUESTIONS = 24


def first_sentence(text):
    return text.split(". ")[0]


@pytest.fixture(scope="module")
def asked(tiny_run, corpus_file, tmp_path_factory):
    """(file of questions, their texts, ids of the passages that they were taken from)."""
    records = [json.loads(line) for line in corpus_file.read_text().splitlines()][:NUM_QUESTIONS]
    texts, ids = [first_sentence(r["text"]) for r in records], [r["id"] for r in records]
    lines = [{"question": text, "gold_passage": id_} for text, id_ in zip(texts, ids, strict=True)]
    others = [{"question": "Who wrote it?"}, {"question": "Where is it?", "gold_passage": "another corpus"}]
    file = tmp_path_factory.mktemp("questions") / "asked.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines + others))
    return str(file), texts, ids


@pytest.fixture(scope="module")
def table(tiny_run, asked):
    return zero_shot.question_recall(tiny_run, questions.read(asked[0])).table


def test_rows_and_columns(table):
    assert list(table) == ["first weights", "BM25"]
    for row in table.values():
        assert list(row) == ["recall@1", "recall@5", "recall@20"]  # a corpus of 80 passages has no recall@100
        assert all(value.n == NUM_QUESTIONS for value in row.values())  # the two others name no passage of it
        assert row["recall@1"].mean <= row["recall@5"].mean <= row["recall@20"].mean


def test_bm25_finds_the_passage_of_a_sentence(table):
    assert table["BM25"]["recall@1"].mean > 0.9 and table["BM25"]["recall@5"].mean == 1.0


def test_recall_of_the_first_weights_against_loops(table, tiny_run, asked):
    data, model = open_prepared(tiny_run), tiny_run.config.model
    params = phases.first_params(tiny_run)["embedder"]
    corpus = data.knowledge
    blocks = corpus.embedder_tokens(np.arange(corpus.num_blocks), corpus.block_len_tokens)
    length = tiny_run.config.pretrain.query_len_tokens
    ids = np.full((NUM_QUESTIONS, length), data.special.pad, np.int32)
    for row, text in zip(ids, asked[1], strict=True):
        pieces = data.tokenizer.encode(text, add_special_tokens=False).ids[: length - 2]
        row[: len(pieces) + 2] = [data.special.cls, *pieces, data.special.sep]
    queries = Tokens(ids, ids != data.special.pad, np.zeros_like(ids))
    embed = jax.jit(embedder.embed, static_argnums=(0, 2))
    scores = np.array(embed(model, params, "query", queries) @ embed(model, params, "block", blocks).T)
    owners = [corpus.block(i).source_id for i in range(corpus.num_blocks)]
    ranks = []
    for row, gold in zip(scores, asked[2], strict=True):
        best = {}
        for owner, score in zip(owners, row, strict=True):
            best[owner] = max(score, best.get(owner, -np.inf))
        ranks.append(sorted(best, key=best.get, reverse=True).index(gold))
    for k in (1, 5, 20):
        assert table["first weights"][f"recall@{k}"].mean == pytest.approx(np.mean(np.array(ranks) < k), abs=1e-9)


def test_questions_of_another_corpus_are_an_error(tiny_run, tmp_path):
    file = tmp_path / "others.jsonl"
    file.write_text('{"question": "Who?"}\n{"question": "Where?", "gold_passage": "another corpus"}\n')
    with pytest.raises(ConfigError, match=r"no question has an answer, nor a gold_passage of the corpus .*tiny\.jsonl"):
        zero_shot.question_recall(tiny_run, questions.read(str(file)))


def test_heldout_recall(tiny_run):
    table, sample = zero_shot.heldout_recall(tiny_run)
    assert list(table) == ["first weights"] and sample is None
    row = table["first weights"]
    assert {f"{kind}_recall@{k}" for kind in ("plain", "hard") for k in (1, 5, 20)} == set(row)
    assert all(0 <= value.mean <= 1 and value.n > 0 for value in row.values())


def test_the_table_as_markdown_and_json(table):
    lines = zero_shot.show(table).splitlines()
    assert lines[0] == "|  | recall@1 | recall@5 | recall@20 | n |" and len(lines) == 4
    assert lines[3].startswith("| BM25 | ") and lines[3].endswith(f" | {NUM_QUESTIONS} |")
    values = json.loads(json.dumps(zero_shot.as_json(table)))
    assert values["BM25"]["recall@5"] == {"mean": 1.0, "half_width": 0.0, "n": NUM_QUESTIONS}


def test_bm25_ranks_the_block_of_an_exact_sentence_first(tiny_run):
    corpus = open_prepared(tiny_run).knowledge
    chosen = np.random.default_rng(0).choice(corpus.num_blocks, 20, replace=False)
    found = bm25(corpus, [corpus.block(int(i)).text for i in chosen], 5)
    assert found.shape == (20, 5) and found[:, 0].tolist() == chosen.tolist()
    assert all(len(set(row[row >= 0])) == (row >= 0).sum() for row in found)


def test_bm25_pads_what_has_no_word_in_common(tiny_run):
    corpus = open_prepared(tiny_run).knowledge
    found = bm25(corpus, ["xyzzy plugh", "Paris"], corpus.num_blocks + 3)
    assert found.shape == (2, corpus.num_blocks + 3)
    assert (found[0] == -1).all()
    named = found[1][found[1] >= 0]
    assert len(named) and all("paris" in str(corpus.block(int(i))).lower() for i in named)
    without = set(range(corpus.num_blocks)) - set(named.tolist())
    assert not any("Paris " in corpus.block(i).text for i in without)
