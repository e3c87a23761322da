"""Question sets of every form that `question_formats` knows: what is read, left out, joined and reported.

What is peculiar about a set, but can be read, is reported in one line for each kind. The questions of a set are
distinct, as the released evaluation counts them.
"""

import dataclasses
import hashlib
import itertools
import json
import logging
import pathlib
import re
from collections.abc import Iterable, Iterator

from realm_jax.config import ConfigError
from realm_jax.data.questions import beir, question_files
from realm_jax.data.questions.patterns import MALFORMED, compiled
from realm_jax.data.questions.question_fields import Malformed
from realm_jax.data.questions.question_formats import FORMATS, OWN, QuestionFormat, recognise
from realm_jax.data.sources.fields import Row
from realm_jax.paths import expand
from realm_jax.records import Question

log = logging.getLogger(__name__)

_LIKE_REGEX = re.compile(r"\\[dswbDSWB.?]|\.\*|\(\?:|\)[?*+]|\w\|\w")


def read(path: str, *, columns: str = "", split: str = "test") -> list[Question]:
    """Reads the distinct questions of a file or a BEIR folder, in order; logs what it was taken for and what was lost.

    A question without an id gets `NAME:LINE`.

    Args:
        columns: `question=COLUMN,answers=COLUMN,…`, by the names in OWN, where the file has others; the cells of a
            table without a header are numbered from 1.
        split: the split whose qrels of a BEIR folder are used.

    Raises:
        ConfigError: there is no such file, its form is unknown, it holds no question, or a row (which is named) is
            malformed or of another form than the first.
    """
    given = pathlib.Path(expand(path))
    file = _file(given, path)
    reports = Reports(path)
    questions = list(_questions(file, path, _mapping(columns), reports))
    folder = beir.folder_of(given)
    if folder is not None:
        questions = beir.with_gold(questions, folder, split, reports)
    return distinct(questions, path, reports)


def content_hash(questions: Iterable[Question]) -> str:
    """Computes the SHA-256 of questions and answers, whatever file they came from; ids do not count."""
    values = [dataclasses.astuple(dataclasses.replace(question, id="")) for question in questions]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


class Reports:
    """What was peculiar about a set: the number and the first place of each kind, logged in one line for each."""

    def __init__(self, name: str):
        self._name = name
        self._places: dict[str, list[str]] = {}

    def __call__(self, kind: str, where: str) -> None:
        """Counts one more."""
        self._places.setdefault(kind, []).append(where)

    def say(self) -> None:
        """Logs what was counted."""
        for kind, found in self._places.items():
            first = found[0].removeprefix(f"{self._name}:")  # of a file, the line alone
            log.info(f"{self._name}: {kind}: {len(found)} (first: {'line ' * first.isdecimal()}{first})")


def distinct(located: Iterable[tuple[str, Question]], name: str, reports: Reports | None = None) -> list[Question]:
    """Drops empty questions, joins equal ones (the first stays and gains the answers of the others), reports.

    Args:
        located: (place, question) pairs; the place is for the report.
        name: the name of the set, for the report.
        reports: what was found before, which is logged, too.

    Raises:
        ConfigError: no question is left, or equal questions have answers of both kinds.
    """
    reports = reports or Reports(name)
    same: dict[str, list[tuple[str, Question]]] = {}
    for where, question in located:
        if not question.text:
            reports("empty questions (dropped)", where)
            continue
        if question.is_regex and not all(map(_compiles, question.answers)):
            reports("invalid regular expressions (match nothing)", where)
        if not question.is_regex and any(map(_LIKE_REGEX.search, question.answers)):
            reports(
                "answers that look like regular expressions (taken as texts: --columns=answer_regex=… takes them so)",
                where,
            )
        if question.text in same:
            reports("repeated questions (joined with their first)", where)
        same.setdefault(question.text, []).append((where, question))
    kept = [_joined(group) for group in same.values()]
    for question in kept:
        if not question.answers and not question.gold_passages and not question.gold_texts:
            reports("questions without an answer (count as wrong)", same[question.text][0][0])
    reports.say()
    if not kept:
        raise ConfigError(f"{name}: has no question: pass --dataset=FILE.jsonl with one a line")
    return kept


def strings(values: Iterable[str]) -> tuple[str, ...]:
    """Trims answers, and drops empty and repeated ones."""
    return tuple(dict.fromkeys(value.strip() for value in values if value.strip()))


def patterns(values: Iterable[str]) -> tuple[str, ...]:
    """Drops empty and repeated regular expressions, of which an empty one would match anything; white space counts."""
    return tuple(dict.fromkeys(value for value in values if value.strip()))


def _file(given: pathlib.Path, path: str) -> pathlib.Path:
    """Finds the one file of questions that a path stands for."""
    if given.is_file():
        return given
    if not given.exists():
        raise ConfigError(f"no question file {path}: pass one that is there")
    if not given.is_dir():
        raise ConfigError(f"{path}: is a pipe or a device, which cannot be read twice: write it to a file")
    if (given / beir.QUERIES).is_file():
        return given / beir.QUERIES
    found = question_files.candidates(given)
    if len(found) != 1:
        names = ", ".join(str(file) for file in found[:8]) + (", …" if len(found) > 8 else "")
        raise ConfigError(f"{path}: {f'could be any of {names}: pass one' if found else 'has no file of questions'}")
    return found[0]


def _questions(
    file: pathlib.Path, path: str, columns: dict[str, str], reports: Reports
) -> Iterator[tuple[str, Question]]:
    """Yields (place, question) of a file's rows, all of the form of the first."""
    rows, name = question_files.read(file, columns.values()), question_files.stem(str(file))
    form: QuestionFormat | None = None
    texts: dict[str, str] = {}
    for where, number, row in rows.rows:
        row = _renamed(row, columns, where) if columns else row
        if form is None:
            form = _form(row, where)
            log.info(f"{path}: taken for {form.name} ({rows.container})")
        if not form.fits(row):
            raise ConfigError(
                f"{where}: is not of the form of the first row, {form.name} ({_keys(row)}): mend or drop it"
            )
        try:
            for nth, question in enumerate(form.parse(row, lambda kind, where=where: reports(kind, where))):
                question = _cleaned(question, f"{name}:{number}" + (f".{nth}" if nth else ""))
                if texts.setdefault(question.id, question.text) != question.text:
                    raise Malformed(f"id {question.id!r} belongs to another question before: make ids unique")
                yield where, question
        except Malformed as error:
            raise ConfigError(f"{where}: {error}: mend or drop it") from error


def _form(row: Row, where: str) -> QuestionFormat:
    form = recognise(row)
    if form is None:
        known = "; ".join(dict.fromkeys(known.name for known in FORMATS))
        raise ConfigError(
            f"{where}: has {_keys(row)}, which is no known form of questions ({known}): "
            "name its fields by --columns=question=…,answers=… (or answer_regex=…)"
        )
    return form


def _keys(row: Row) -> str:
    """Says what keys a row has."""
    return f"the keys {', '.join(map(str, list(row)[:12]))}"[:200]


def _mapping(columns: str) -> dict[str, str]:
    """Maps our fields to the columns of the file."""
    pairs = [pair.partition("=") for pair in columns.split(",") if pair.strip()]
    wrong = [field for field, _, column in pairs if field.strip() not in OWN or not column.strip()]
    if wrong:
        raise ConfigError(f"--columns={columns}: {wrong[0]!r} is none of {', '.join(OWN)} with its =COLUMN")
    found = {field.strip(): column.strip() for field, _, column in pairs}
    if found and ("question" not in found or {"answers", "answer_regex"} <= set(found)):
        raise ConfigError(f"--columns={columns}: name `question`, and one of `answers` and `answer_regex`")
    return found


def _renamed(row: Row, columns: dict[str, str], where: str) -> dict:
    missing = [name for name in columns.values() if name not in row]
    if missing:
        raise ConfigError(f"{where}: has no {missing[0]!r} of --columns, but {_keys(row)}")
    return {field: row[name] for field, name in columns.items()}


def _cleaned(question: Question, default_id: str) -> Question:
    """Drops outer blanks and empty answers, and gives a question an id. Raises Malformed."""
    for text in (question.id, question.text, *question.answers, *question.gold_passages, *question.gold_texts):
        if re.search("[\ud800-\udfff]", text):
            raise Malformed("holds half of a surrogate pair, or is not UTF-8: write whole characters")
    return dataclasses.replace(
        question,
        id=question.id or default_id,
        text=question.text.strip(),
        answers=(patterns if question.is_regex else strings)(question.answers),
    )


def _compiles(pattern: str) -> bool:
    try:
        compiled(pattern)
    except MALFORMED:
        return False
    return True


def _joined(group: list[tuple[str, Question]]) -> Question:
    """Joins equal questions: the first, with the answers and passages of all."""
    first = group[0][1]
    if len(group) == 1:
        return first
    kinds = [(where, question.is_regex) for where, question in group if question.answers]
    for where, is_regex in kinds:
        if is_regex != kinds[0][1]:
            raise ConfigError(f"{where}: the same question has answers of the other kind before: use one kind for both")
    return dataclasses.replace(
        first,
        answers=_distinct(question.answers for _, question in group),
        is_regex=kinds[0][1] if kinds else first.is_regex,
        gold_passages=_distinct(question.gold_passages for _, question in group),
        gold_texts=_distinct(question.gold_texts for _, question in group),
    )


def _distinct(parts: Iterable[tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(itertools.chain.from_iterable(parts)))
