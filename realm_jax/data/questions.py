"""Question files: JSON lines of {question, answers | answer_regex, gold_passage, id}, plain or gzip.

What can be survived is survived and reported in one line a kind; questions of one set are distinct, as the released
evaluation counts them.
"""

import gzip
import json
import pathlib
import re
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import regex

from realm_jax.config import ConfigError
from realm_jax.types import Question

ANSWER_FIELDS = ("answers", "answer_regex")


def read(path: str) -> list[Question]:
    """The distinct questions of a file, in order; prints what `distinct` reports.

    A question without an `id` gets `NAME:LINE`.

    Raises:
        ConfigError: there is no such file, it holds no question, or a line (which is named) is malformed.
    """
    file = pathlib.Path(path).expanduser()
    if not file.is_file():
        raise ConfigError(f"no question file {path}: pass --dataset=FILE.jsonl")
    name = stem(path)
    located = []
    texts: dict[str, str] = {}
    for number, line in _lines(file):
        where = f"{path}:{number}"
        question = _parse(line, where, default_id=f"{name}:{number}")
        if texts.setdefault(question.id, question.text) != question.text:
            raise ConfigError(f"{where}: id {question.id!r} belongs to another question before: make ids unique")
        located.append((where, question))
    return distinct(located, path)


def stem(path: str) -> str:
    """`FILE` of `some/folder/FILE.jsonl.gz`."""
    return pathlib.Path(path).name.removesuffix(".gz").removesuffix(".jsonl").removesuffix(".json")


def distinct(located: Iterable[tuple[str, Question]], name: str) -> list[Question]:
    """Drops empty questions, joins equal ones (the first stays and gains the answers of the others), reports.

    Args:
        located: (place, question) pairs; the place is for the report.
        name: of the set, for the report.

    Raises:
        ConfigError: no question is left, or equal questions have answers of both kinds.
    """
    kept: dict[str, Question] = {}
    places: dict[str, str] = {}
    reports: dict[str, list[str]] = {}
    for where, question in located:
        if not question.text:
            reports.setdefault("empty questions (dropped)", []).append(where)
            continue
        if question.is_regex and not all(_compiles(answer) for answer in question.answers):
            reports.setdefault("invalid regular expressions (match nothing)", []).append(where)
        if question.text in kept:
            reports.setdefault("repeated questions (joined with their first)", []).append(where)
            question = _joined(kept[question.text], question, where)
        places.setdefault(question.text, where)
        kept[question.text] = question
    without = [places[question.text] for question in kept.values() if not question.answers]
    if without:
        reports["questions without an answer (count as wrong)"] = without
    for kind, found in reports.items():
        print(f"{name}: {kind}: {len(found)} (first: {found[0]})", flush=True)
    if not kept:
        raise ConfigError(f"{name}: has no question: pass --dataset=FILE.jsonl with one a line")
    return list(kept.values())


def strings(values: Iterable[str]) -> tuple[str, ...]:
    """Answers trimmed, without empty and repeated ones."""
    return tuple(dict.fromkeys(value.strip() for value in values if value.strip()))


def patterns(values: Iterable[str]) -> tuple[str, ...]:
    """The same for regular expressions, whose outer white space counts; an empty one would match anything."""
    return tuple(dict.fromkeys(value for value in values if value.strip()))


def _lines(file: pathlib.Path) -> Iterator[tuple[int, bytes]]:
    """(line number from 1, line) of the lines that are not blank."""
    try:
        with gzip.open(file) if file.suffix == ".gz" else open(file, "rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield number, line
    except (OSError, EOFError, zlib.error) as error:
        raise ConfigError(f"{file}: cannot be read ({error}): make it again or pass another --dataset") from error


def _parse(line: bytes, where: str, default_id: str) -> Question:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:  # not UTF-8, no JSON, or too deep
        raise ConfigError(f"{where}: is not JSON ({error}): mend or drop the line") from error
    if not isinstance(record, dict) or not isinstance(record.get("question"), str):
        raise ConfigError(f'{where}: no JSON object with a "question" text: mend or drop the line')
    if "answer" in record or all(field in record for field in ANSWER_FIELDS):
        raise ConfigError(
            f"{where}: name the field of the answers `answers` (strings) or `answer_regex` (regular expressions), "
            "one of them"
        )
    is_regex = "answer_regex" in record
    answers = record.get("answer_regex" if is_regex else "answers") or []
    answers = [answers] if isinstance(answers, str) else answers
    if not isinstance(answers, list) or not all(isinstance(answer, str) for answer in answers):
        raise ConfigError(f"{where}: the answers are no list of strings: mend or drop the line")
    for text in (record["question"], *answers):
        if re.search("[\ud800-\udfff]", text):
            raise ConfigError(f"{where}: holds half of a surrogate pair: write the whole character")
    return Question(
        id=_text(record, "id", where) or default_id,
        text=record["question"].strip(),
        answers=patterns(answers) if is_regex else strings(answers),
        is_regex=is_regex,
        gold_passage=_text(record, "gold_passage", where),
    )


def _text(record: dict[str, Any], field: str, where: str) -> str | None:
    """A field's text; numbers are taken as `sources` takes them."""
    value = record.get(field)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if value is not None and not isinstance(value, str):
        raise ConfigError(f"{where}: field {field!r} is not a string: put it in quotes")
    return value or None


def _compiles(pattern: str) -> bool:
    try:
        regex.compile(pattern, regex.UNICODE)
    except (regex.error, ValueError, RecursionError):
        return False
    return True


def _joined(first: Question, other: Question, where: str) -> Question:
    if first.answers and other.answers and first.is_regex != other.is_regex:
        raise ConfigError(f"{where}: the same question has answers of the other kind before: use one kind for both")
    return Question(
        id=first.id,
        text=first.text,
        answers=tuple(dict.fromkeys(first.answers + other.answers)),
        is_regex=first.is_regex if first.answers else other.is_regex,
        gold_passage=first.gold_passage or other.gold_passage,
    )
