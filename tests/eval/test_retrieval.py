"""Recall on a question file, with questions whose right passage is known by construction."""

import json

import pytest

from realm_jax.config import ConfigError
from realm_jax.data.prepare import open_prepared
from realm_jax.eval import retrieval


@pytest.fixture
def questions(tiny_run, tmp_path):
    """A block's text asks for its own record."""
    corpus = open_prepared(tiny_run).knowledge
    blocks = [corpus.block(i) for i in range(0, corpus.num_blocks, 9)]
    file = tmp_path / "questions.jsonl"
    lines = [json.dumps({"question": block.text, "gold_passage": block.source_id}) for block in blocks]
    file.write_text("\n".join([*lines, json.dumps({"question": "no passage"})]))
    return file, len(lines)


def test_bm25_and_every_state_are_in_one_table(tiny_run, questions):
    file, asked = questions
    table = retrieval.question_recall(tiny_run, str(file))
    assert list(table) == ["first weights", "BM25"]
    assert table["BM25"]["recall@1"].mean == 1.0
    assert {row["recall@5"].n for row in table.values()} == {asked}
    assert table["first weights"]["recall@20"].mean >= table["first weights"]["recall@1"].mean


def test_questions_of_another_corpus_are_refused(tiny_run, tmp_path):
    file = tmp_path / "other.jsonl"
    file.write_text(json.dumps({"question": "who?", "gold_passage": "elsewhere"}))
    with pytest.raises(ConfigError, match="no question has a gold_passage of the corpus"):
        retrieval.question_recall(tiny_run, str(file))


def test_a_bad_line_is_named(tiny_run, tmp_path):
    file = tmp_path / "bad.jsonl"
    file.write_text('{"question": "who?"}\n{"quest')
    with pytest.raises(ConfigError, match=r"bad.jsonl:2: no JSON object"):
        retrieval.question_recall(tiny_run, str(file))
