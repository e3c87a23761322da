"""What becomes of one row of each published form of questions; `question_formats` knows which form a row has.

Each takes a row and a report for what is peculiar about it, and yields questions as they came, with an empty id where
there is none; each raises `question_fields.Malformed`.
"""

import re
from collections.abc import Iterator

from realm_jax.data.questions.question_fields import Report, answers, identities, identity, list_in_text, objects, text
from realm_jax.records import Question

YES_NO = "questions with the answer yes or no (kept: passages seldom say so)"


def own(row: dict, report: Report) -> Iterator[Question]:
    """Parses our own form."""
    is_regex = "answer_regex" in row
    yield Question(
        identity(row, "id"),
        text(row, "question"),
        tuple(answers(row.get("answer_regex" if is_regex else "answers"), report, is_regex=is_regex)),
        is_regex,
        identities(row, "gold_passage"),
    )


def natural_questions(row: dict, report: Report) -> Iterator[Question]:
    """Parses NQ-open: `answer` is a list, or one text; MuSiQue has others in `answer_aliases`."""
    found = (*answers(row["answer"], report), *answers(row.get("answer_aliases"), report))
    yield Question(identity(row, "id"), text(row, "question"), found)


def squad(row: dict, report: Report) -> Iterator[Question]:
    """Parses a whole file of SQuAD."""
    for article in objects(row, "data"):
        for paragraph in objects(article, "paragraphs"):
            for asked in objects(paragraph, "qas"):
                found = [text(answer, "text") for answer in objects(asked, "answers")]
                yield from _unless_impossible(asked, found, text(paragraph, "context"), report)


def squad_rows(row: dict, report: Report) -> Iterator[Question]:
    """Parses one question of SQuAD with its paragraph."""
    yield from _unless_impossible(row, answers(row["answers"]["text"], report), text(row, "context"), report)


def _unless_impossible(row: dict, found: list[str], context: str, report: Report) -> Iterator[Question]:
    """Yields a question of SQuAD, unless it is one of version 2 that its paragraph does not answer."""
    if row.get("is_impossible") or not found:
        report("questions that their paragraph does not answer (left out)")
        return
    yield Question(identity(row, "id"), text(row, "question"), tuple(found), gold_texts=(context,))


def trivia_qa(row: dict, report: Report) -> Iterator[Question]:
    """Parses a whole file of TriviaQA."""
    for asked in objects(row, "Data"):
        answer = asked.get("Answer")
        found = _value_and_aliases(answer, "Value", "Aliases", report) if isinstance(answer, dict) else []
        yield Question(identity(asked, "QuestionId"), text(asked, "Question"), tuple(found))


def trivia_qa_rows(row: dict, report: Report) -> Iterator[Question]:
    """Parses one question of TriviaQA."""
    found = _value_and_aliases(row["answer"], "value", "aliases", report)
    yield Question(identity(row, "question_id"), text(row, "question"), tuple(found))


def _value_and_aliases(answer: dict, value: str, aliases: str, report: Report) -> list[str]:
    return [text(answer, value), *answers(answer.get(aliases), report)]


def dpr_table(row: dict, report: Report) -> Iterator[Question]:
    """Parses a line of DPR: a question and a Python list."""
    yield Question("", row["1"], tuple(list_in_text(row["2"]) or ()))


def dpr_retriever(row: dict, report: Report) -> Iterator[Question]:
    """Parses a question of DPR with its positive passages."""
    passages = objects(row, "positive_ctxs")
    ids = [identity(passage, "passage_id") or identity(passage, "psg_id") for passage in passages]
    texts = [text(passage, "text") for passage, found in zip(passages, ids, strict=True) if not found]
    found = tuple(answers(row.get("answers"), report))
    gold = tuple(filter(None, ids))
    yield Question(identity(row, "id"), text(row, "question"), found, gold_passages=gold, gold_texts=tuple(texts))


def with_contexts(row: dict, report: Report) -> Iterator[Question]:
    """Parses a question with passages that somebody's retriever found."""
    is_regex = row.get("is_regex") is True
    found = answers(row["answers"] if "answers" in row else row.get("target"), report, is_regex=is_regex)
    gold = identities(row, "gold_passage")
    yield Question(identity(row, "id"), text(row, "question"), tuple(found), is_regex, gold)


def tevatron(row: dict, report: Report) -> Iterator[Question]:
    """Parses a query with its positive passages."""
    gold = tuple(filter(None, (identity(passage, "docid") for passage in objects(row, "positive_passages"))))
    found = tuple(answers(row.get("answers"), report))
    yield Question(identity(row, "query_id"), text(row, "query"), found, gold_passages=gold)


def beir(row: dict, report: Report) -> Iterator[Question]:
    """Parses a query of BEIR; its passages come from `beir.with_gold`."""
    yield Question(identity(row, "_id"), text(row, "text"))


def curated_trec(row: dict, report: Report) -> Iterator[Question]:
    """Parses a line of id, kind, question and pattern."""
    yield Question(row["1"], row["3"], (row["4"],), is_regex=True)


def web_questions(row: dict, report: Report) -> Iterator[Question]:
    """Parses WebQuestions: `(list (description "Two words") (description One))` has two answers."""
    target = text(row, "targetValue")
    found = re.findall(r'\(description (?:"((?:[^"\\]|\\.)*)"|([^()"]*))\)', target)
    if len(found) < target.count("(description "):
        report("descriptions that cannot be read (left out)")
    unquoted = [re.sub(r"\\(.)", r"\1", quoted) or plain for quoted, plain in found]
    yield Question("", text(row, "utterance"), tuple(unquoted))


def hotpot(row: dict, report: Report) -> Iterator[Question]:
    """Parses a question of HotpotQA."""
    found = answers(row.get("answer"), report)
    if found in (["yes"], ["no"]):
        report(YES_NO)
    yield Question(identity(row, "_id") or identity(row, "id"), text(row, "question"), tuple(found))


def pop_qa(row: dict, report: Report) -> Iterator[Question]:
    """Parses a question of PopQA."""
    given = row["possible_answers"]
    found = list_in_text(given) if isinstance(given, str) else None
    found = answers(given, report) if found is None else found
    yield Question(identity(row, "id"), text(row, "question"), tuple(found))


def kilt(row: dict, report: Report) -> Iterator[Question]:
    """Parses an example of KILT's question answering tasks."""
    outputs = objects(row, "output")
    found = [text(output, "answer") for output in outputs if output.get("answer") is not None]
    pages = [page for output in outputs for page in objects(output, "provenance")]
    gold = tuple(dict.fromkeys(filter(None, (identity(page, "wikipedia_id") for page in pages))))
    yield Question(identity(row, "id"), text(row, "input"), tuple(found), gold_passages=gold)
