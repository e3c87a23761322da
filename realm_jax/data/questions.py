"""Question files: JSON lines of {question, answers | answer_regex, gold_passage}, plain or gzip."""

import gzip
import json
import pathlib
from dataclasses import dataclass

from realm_jax.config import ConfigError


@dataclass(frozen=True)
class Question:
    """One question with the passage that answers it, where the file names it."""

    text: str
    gold_passage: str | None
    """Source id of the record in the knowledge corpus."""


def read(path: str) -> list[Question]:
    """Raises ConfigError naming file and line of whatever cannot be used."""
    file = pathlib.Path(path)
    if not file.is_file():
        raise ConfigError(f"no question file {path}: pass --dataset=FILE.jsonl")
    opener = gzip.open if file.suffix == ".gz" else open
    questions = []
    with opener(file, "rt", encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            try:
                record = json.loads(line)
                questions.append(Question(record["question"].strip(), record.get("gold_passage")))
            except (json.JSONDecodeError, KeyError, AttributeError, TypeError) as error:
                raise ConfigError(
                    f'{path}:{number}: no JSON object with a "question" text ({error}): mend or drop the line'
                ) from error
    if not questions:
        raise ConfigError(f"{path} is empty: pass --dataset=FILE.jsonl with one question a line")
    return questions
