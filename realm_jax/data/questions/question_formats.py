"""The published forms of question sets: how each is recognised by its first row, and what becomes of a row.

A row is a JSON object, a line of a table (its cells by the names of the header, or by their numbers from 1), or a whole
JSON file that is one object. `question_files` knows how rows lie in files.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from realm_jax.data.questions import question_parsers
from realm_jax.data.questions.question_fields import Report, list_in_text
from realm_jax.data.sources.fields import Row
from realm_jax.records import Question

OWN = ("id", "question", "answers", "answer_regex", "gold_passage")
"""The fields of our own form, which `--columns` can name."""


@dataclass(frozen=True)
class QuestionFormat:
    """One published form. A row that `fits` is parsed into questions as they came; an empty id means none."""

    name: str
    form: str
    """The files that have it, and their keys or columns."""
    example: str
    """An example: one row, or a whole file of one question; ⇥ is a tab."""
    becomes: str
    """What becomes of a row, for people."""
    fits: Callable[[Row], bool]
    parse: Callable[[dict, Report], Iterable[Question]]
    """Raises `question_fields.Malformed`."""


def recognise(row: Row) -> QuestionFormat | None:
    """Finds the first format that a set's first row fits."""
    return next((known for known in FORMATS if known.fits(row)), None)


def _has(*keys: str, without: tuple[str, ...] = ()) -> Callable[[Row], bool]:
    return lambda row: all(k in row for k in keys) and not any(k in row for k in without)


def _is_list_of(key: str, inner: str) -> Callable[[Row], bool]:
    """Makes a test whether a row's `key` is a list of objects that have `inner`."""

    def fits(row: Row) -> bool:
        value = row.get(key)
        return isinstance(value, list) and bool(value) and isinstance(value[0], dict) and inner in value[0]

    return fits


def _inner(key: str, inner: str) -> Callable[[Row], bool]:
    return lambda row: isinstance(row.get(key), dict) and inner in row[key]


def _all(*tests: Callable[[Row], bool]) -> Callable[[Row], bool]:
    return lambda row: all(test(row) for test in tests)


def _is_own(row: Row) -> bool:
    """Whether a row has answers of one kind, or has none and nothing else that might be answers under another name."""
    kinds = [kind for kind in ("answers", "answer_regex") if kind in row]
    is_alone = set(row) <= set(OWN)
    return _has("question", without=("answer",))(row) and (len(kinds) == 1 or (not kinds and is_alone))


def _is_trec(row: Row) -> bool:
    """Whether the first two of four columns are words: an id and a kind."""
    return _is_table(4)(row) and all(re.fullmatch(r"\S+", row[column]) for column in "12")


def _is_table(columns: int) -> Callable[[Row], bool]:
    return lambda row: list(row) == [str(i) for i in range(1, columns + 1)]


def _has_list(row: dict) -> bool:
    return list_in_text(row["2"]) is not None


FORMATS = (
    QuestionFormat(
        "SQuAD v1.1 or v2",
        "`train-v1.1.json`, `dev-v2.0.json`: one object with `data`, `paragraphs`, `qas`",
        '{"version": "1.1", "data": [{"title": "Fox", "paragraphs": [{"context": "Foxes dig.", "qas": '
        '[{"id": "f1", "question": "Who digs?", "answers": [{"text": "Foxes", "answer_start": 0}]}]}]}]}',
        "its answers; the paragraph is the gold passage, by its text; unanswerable questions are left out and counted",
        _is_list_of("data", "paragraphs"),
        question_parsers.squad,
    ),
    QuestionFormat(
        "SQuAD, rows",
        "`squad` of Hugging Face: `id`, `context`, `question`, `answers` with `text`",
        '{"id": "f1", "title": "Fox", "context": "Foxes dig.", "question": "Who digs?", '
        '"answers": {"text": ["Foxes"], "answer_start": [0]}}',
        "the same",
        _all(_has("question", "context"), _inner("answers", "text")),
        question_parsers.squad_rows,
    ),
    QuestionFormat(
        "TriviaQA",
        "`qa/*.json`, `unfiltered-web-*.json`: one object with `Data`, `Question`, `Answer`",
        '{"Data": [{"QuestionId": "tc_1", "Question": "Who digs?", '
        '"Answer": {"Value": "Foxes", "Aliases": ["Fox"], "NormalizedAliases": ["fox"]}}]}',
        "`Value` and `Aliases` are answers",
        _is_list_of("Data", "Question"),
        question_parsers.trivia_qa,
    ),
    QuestionFormat(
        "TriviaQA, rows",
        "`trivia_qa` of Hugging Face: `question_id`, `question`, `answer` with `value`, `aliases`",
        '{"question_id": "tc_1", "question": "Who digs?", "answer": {"value": "Foxes", "aliases": ["Fox"]}}',
        "the same",
        _all(_has("question"), _inner("answer", "value")),
        question_parsers.trivia_qa_rows,
    ),
    QuestionFormat(
        "DPR, training of the retriever",
        "`biencoder-*.json`: `question`, `answers`, `positive_ctxs`",
        '[{"question": "who digs", "answers": ["Foxes"], "positive_ctxs": '
        '[{"title": "Fox", "text": "Foxes dig.", "passage_id": "7"}], "negative_ctxs": []}]',
        "positive passages are gold: by `passage_id` or `psg_id`, else by text",
        _has("question", "positive_ctxs"),
        question_parsers.dpr_retriever,
    ),
    QuestionFormat(
        "tevatron",
        "`train.jsonl`: `query_id`, `query`, `positive_passages`",
        '{"query_id": "1", "query": "who digs", "positive_passages": [{"docid": "7", "title": "Fox", "text": "…"}]}',
        "positive passages are gold, by `docid`; `answers` if there are any",
        _has("query_id", "query"),
        question_parsers.tevatron,
    ),
    QuestionFormat(
        "BEIR queries",
        "a folder of `queries.jsonl` and `qrels/*.tsv`, or that file: `_id`, `text`",
        '{"_id": "1", "text": "who digs", "metadata": {}}',
        "passages with a score above 0 in the qrels of `--split` are gold; other queries are left out and counted",
        _has("_id", "text", without=("question",)),
        question_parsers.beir,
    ),
    QuestionFormat(
        "HotpotQA",
        "`hotpot_*.json`: `_id`, `question`, `answer`, `supporting_facts`",
        '[{"_id": "5a", "question": "Dig foxes?", "answer": "yes", "supporting_facts": [["Fox", 0]], "context": []}]',
        "one answer; yes and no are counted",
        _has("question", "supporting_facts"),
        question_parsers.hotpot,
    ),
    QuestionFormat(
        "PopQA",
        "`test.tsv` or JSON: `id`, `question`, `possible_answers`",
        '{"id": 4, "question": "Who digs?", "possible_answers": "[\\"Foxes\\", \\"fox\\"]"}',
        "`possible_answers` is a list, often as one text",
        _has("question", "possible_answers"),
        question_parsers.pop_qa,
    ),
    QuestionFormat(
        "KILT",
        "`*-kilt.jsonl`: `id`, `input`, and `output` with `answer`, `provenance`",
        '{"id": "k1", "input": "who digs", "output": [{"answer": "Foxes", "provenance": [{"wikipedia_id": "7"}]}]}',
        "every `answer`; pages of the provenance are gold, by `wikipedia_id`",
        _has("id", "input"),
        question_parsers.kilt,
    ),
    QuestionFormat(
        "WebQuestions",
        "`webquestions.*.json`: `utterance`, `targetValue`",
        '[{"url": "…", "utterance": "who digs?", "targetValue": "(list (description Foxes))"}]',
        "its descriptions are answers",
        _has("utterance", "targetValue"),
        question_parsers.web_questions,
    ),
    QuestionFormat(
        "CuratedTREC",
        "`large2180-*.tsv`: id, kind, question, pattern, without a header",
        "7⇥factoid⇥Who digs?⇥fox(es)?",
        "the answer is a regular expression",
        _is_trec,
        question_parsers.curated_trec,
    ),
    QuestionFormat(
        "DPR questions",
        "`nq-test.csv` and others: question, tab, answers as a Python list, without a header",
        "who digs⇥['Foxes', 'fox']",
        "the list's texts are answers",
        _all(_is_table(2), _has_list),
        question_parsers.dpr_table,
    ),
    QuestionFormat(
        "FiD and Atlas",
        "`question`, `answers` or `target`, `ctxs`, as JSON or JSON lines; DPR's retrieval results, and ours",
        '{"id": "1", "question": "who digs", "answers": ["Foxes"], "ctxs": [{"id": "7", "title": "Fox", "text": "…"}]}',
        "`answers`, else `target`; the passages are somebody's results, not gold",
        lambda row: _has("question", "ctxs")(row) or _has("question", "target", without=("answer",))(row),
        question_parsers.with_contexts,
    ),
    QuestionFormat(
        "Natural Questions open, EfficientQA",
        "`NQ-open.*.jsonl`: `question`, `answer`",
        '{"question": "who digs", "answer": ["Foxes"]}',
        "`answer` is a list of answers, or one; `answer_aliases` (MuSiQue's) are answers, too",
        _has("question", "answer", without=("answers", "answer_regex")),
        question_parsers.natural_questions,
    ),
    QuestionFormat(
        "questions",
        "ours, as JSON or a table: `question`, `answers` or `answer_regex`, `gold_passage`, `id`",
        '{"id": "1", "question": "Who digs?", "answers": ["Foxes"], "gold_passage": "fox"}',
        "as named; `gold_passage` is an id of the corpus, or several, of which each will do",
        _is_own,
        question_parsers.own,
    ),
)
