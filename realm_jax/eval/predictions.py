"""Predictions as JSON lines: writes a run's own, with the blocks that were read; scores those of any system."""

import json
import logging
import math
import os
import pathlib
from collections.abc import Sequence

from etils import epath

from realm_jax import faults
from realm_jax.config import ConfigError
from realm_jax.data.corpus import Corpus
from realm_jax.records import Prediction, Question
from realm_jax.scores.answers import is_correct
from realm_jax.workdir import write_text

log = logging.getLogger(__name__)


def write_predictions(
    file: epath.Path, predictions: Sequence[Prediction], corpus: Corpus, *, with_texts: bool = False
) -> None:
    """Writes a line for each prediction, in a form that `score_file` reads; an unknown probability is null.

    Args:
        with_texts: also writes the text of every block that was read, which can be long.
    """
    lines = (json.dumps(_as_json(p, corpus, with_texts), ensure_ascii=False, allow_nan=False) for p in predictions)
    faults.point("answers")
    write_text(file, "".join(f"{line}\n" for line in lines))


def _as_json(prediction: Prediction, corpus: Corpus, with_texts: bool) -> dict:
    question = prediction.question
    return {
        "id": question.id,
        "question": question.text,
        "answers": question.answers,
        "prediction": prediction.answer,
        "is_correct": prediction.is_correct,
        "probability": None if math.isnan(prediction.probability) else prediction.probability,
        "oracle": prediction.oracle,
        "block_rank": prediction.block_rank,
        "span": prediction.span,
        "answer_rank": prediction.answer_rank,
        "blocks": [
            _block_as_json(corpus, block, score, with_texts)
            for block, score in zip(prediction.blocks, prediction.retrieval_scores, strict=True)
        ],
    }


def _block_as_json(corpus: Corpus, index: int, score: float, with_texts: bool) -> dict:
    block = corpus.block(index)
    text = {"text": block.text} if with_texts else {}
    return {"block": index, "source_id": block.source_id, "title": block.title, **text, "retrieval_score": score}


def score_file(path: str | os.PathLike, questions: Sequence[Question]) -> list[Prediction]:
    """Scores a file of JSON lines {question, prediction}: one prediction for each question, in the questions' order.

    A line belongs to the question with the same text, apart from blanks around it. Of several lines for one question
    the last counts. A question without a line, or with an empty prediction, is wrong. Unmatched lines are logged.

    Raises:
        ConfigError: naming file and line of what cannot be used; or no line is about one of the questions.
    """
    answers, repeated = _answers(pathlib.Path(path))
    wanted = {question.text.strip() for question in questions}
    known = wanted & answers.keys()
    if not known:
        raise ConfigError(f"{path}: answers none of the {len(wanted)} questions: pass predictions for this very set")
    bad_patterns: set[str] = set()
    given = [answers.get(question.text.strip(), "") for question in questions]
    scored = [
        Prediction(question, answer, is_correct(question, answer, bad_patterns))
        for question, answer in zip(questions, given, strict=True)
    ]
    counts = {
        "questions have no line and count as wrong": len(wanted) - len(known),
        "lines repeat a question; its last one counts": repeated,
        "other questions are left out": len(answers) - len(known),
    }
    for what, count in counts.items():
        if count:
            log.info(f"{path}: {count} {what}")
    if bad_patterns:
        log.info(f"{len(bad_patterns)} bad patterns count as wrong: {'; '.join(sorted(bad_patterns))}")
    return scored


def _answers(file: pathlib.Path) -> tuple[dict[str, str], int]:
    """Prediction of each question's text, and how many lines repeat a question."""
    if not file.is_file():
        raise ConfigError(f"no file of predictions {file}: pass --predictions=FILE.jsonl")
    answers: dict[str, str] = {}
    count = 0
    for number, line in enumerate(file.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            question, prediction = record["question"].strip(), record["prediction"]
            if not isinstance(prediction, str):
                raise TypeError(f"the prediction is {prediction!r}")
        except (ValueError, RecursionError, KeyError, AttributeError, TypeError) as error:
            raise ConfigError(
                f'{file}:{number}: no JSON object of texts "question" and "prediction" ({error}): mend or drop the line'
            ) from error
        answers[question] = prediction
        count += 1
    return answers, count - len(answers)
