"""Predictions written and read back, and files of other systems, good and bad."""

import json

import numpy as np
import pytest
from etils import epath

from realm_jax.config import ConfigError
from realm_jax.data.prepare import open_prepared
from realm_jax.eval.predictions import score_file, write_predictions
from realm_jax.records import Prediction, Question

QUESTIONS = [
    Question("1", "who is it", ("Ada",)),
    Question("2", " when ", (r"19\d\d", "("), is_regex=True),
    Question("3", "why", ()),
    Question("4", "where", ("the Sea", "Rome")),
]


def file_of(tmp_path, *lines):
    file = tmp_path / "theirs.jsonl"
    file.write_text("".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines))
    return file


def test_a_file_is_scored_by_question(tmp_path, capsys):
    file = file_of(
        tmp_path,
        {"question": "where", "prediction": "Paris"},
        {"question": "when", "prediction": "1984 or so"},
        {"question": "unknown", "prediction": "Ada"},
        "\n",
        {"question": " where ", "prediction": "rome!"},
        {"question": "why", "prediction": "no reason", "more": 1},
    )
    scored = score_file(file, QUESTIONS)
    assert [p.question for p in scored] == QUESTIONS
    assert [p.answer for p in scored] == ["", "1984 or so", "no reason", "rome!"]
    assert [p.is_correct for p in scored] == [False, True, False, True]
    assert all(np.isnan(p.probability) and not p.blocks for p in scored)
    said = capsys.readouterr().out.splitlines()
    assert [line.removeprefix(f"{file}: ")[:7] for line in said] == ["1 quest", "1 lines", "1 other"]


def test_bad_patterns_are_said_once(tmp_path, capsys):
    score_file(file_of(tmp_path, {"question": "when", "prediction": "x"}), [QUESTIONS[1], QUESTIONS[1]])
    assert capsys.readouterr().out.count("'('") == 1


@pytest.mark.parametrize(
    "line",
    ["nonsense\n", "[1]\n", '{"question": "when"}\n', '{"question": 1, "prediction": ""}\n', '"when"\n']
    + ['{"question": "when", "prediction": null}\n', "\x00\n"],
)
def test_a_bad_line_is_named(tmp_path, line):
    file = file_of(tmp_path, {"question": "when", "prediction": "x"}, line)
    with pytest.raises(ConfigError, match=r"theirs.jsonl:2: .*mend or drop the line"):
        score_file(file, QUESTIONS)


def test_a_file_of_other_questions_or_none(tmp_path):
    with pytest.raises(ConfigError, match="answers none of the 4 questions"):
        score_file(file_of(tmp_path, {"question": "What?", "prediction": "x"}), QUESTIONS)
    with pytest.raises(ConfigError, match="no file of predictions"):
        score_file(tmp_path / "missing.jsonl", QUESTIONS)
    (tmp_path / "latin.jsonl").write_bytes('{"question": "caf\u00e9", "prediction": ""}'.encode("latin-1"))
    with pytest.raises(ConfigError, match="latin.jsonl:1: "):
        score_file(tmp_path / "latin.jsonl", QUESTIONS)


def test_what_is_written_can_be_read_and_scored(tiny_run, tmp_path):
    corpus = open_prepared(tiny_run).knowledge
    word = corpus.block(7).text[:5]
    answered = Prediction(
        Question("1", "who\u2028is it?", (word, "né")),
        word,
        True,
        probability=0.25,
        oracle=True,
        block_rank=1,
        span=(0, 5),
        blocks=(3, 7),
        retrieval_scores=(2.5, 1.0),
        answer_rank=1,
    )
    file = epath.Path(tmp_path) / "eval" / "ours.jsonl"
    write_predictions(file, [answered, Prediction(QUESTIONS[3], "", False)], corpus)
    first, second = map(json.loads, file.read_text().split("\n")[:2])
    block = first["blocks"][first["block_rank"]]
    assert block == {"block": 7, "source_id": corpus.block(7).source_id, "title": corpus.block(7).title} | {
        "retrieval_score": 1.0
    }
    assert (first["probability"], first["span"], first["answers"]) == (0.25, [0, 5], [word, "né"])
    assert (second["probability"], second["blocks"], second["prediction"]) == (None, [], "")
    scored = score_file(file, [answered.question, QUESTIONS[3]])
    assert [(p.answer, p.is_correct) for p in scored] == [(word, True), ("", False)]
    write_predictions(file, [answered], corpus, with_texts=True)
    start, limit = first["span"]
    assert json.loads(file.read_text())["blocks"][1]["text"][start:limit] == word
