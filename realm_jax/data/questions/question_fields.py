"""Fields of other people's rows: texts, ids and lists of answers, or a `Malformed` that says what is there instead."""

import ast
import json
import re
import warnings
from collections.abc import Callable
from typing import Any

Report = Callable[[str], None]
"""Counts a row under something peculiar about it; the counts are logged at the end."""
LIST_IN_TEXT = "answers in one text (read as the list that it is)"
NUMBER = "answers that are whole numbers (taken as their digits)"
NO_LIST_IN_TEXT = "answers that begin with [ and are no list of texts (taken as they are)"
_PYTHON_TEXT = r"""[uU]?(?:'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*")"""
_PYTHON_LIST = re.compile(rf"\[\s*+(?:{_PYTHON_TEXT}\s*+(?:,\s*+{_PYTHON_TEXT}\s*+)*+,?\s*+)?\]")


class Malformed(ValueError):
    """A row that lacks what its format has; the message goes on after the row's place."""


def text(row: dict, key: str) -> str:
    """Reads a text that must be there. Raises Malformed."""
    if not isinstance(row.get(key), str):
        raise Malformed(f"has no text {key!r}")
    return row[key]


def identity(row: dict, key: str) -> str:
    """Reads an id, a text or a whole number; an empty text if there is none. Raises Malformed."""
    value = row.get(key)
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if value is not None and not isinstance(value, str):
        raise Malformed(f"field {key!r} is not a string: put it in quotes")
    return value or ""


def identities(row: dict, key: str) -> tuple[str, ...]:
    """Reads one id or several. Raises Malformed."""
    value = row.get(key)
    values = value if isinstance(value, list) else [value]
    return tuple(found for found in (identity({key: one}, key) for one in values) if found)


def objects(row: dict, key: str) -> list[dict]:
    """Reads a list of objects; an empty list if there is none. Raises Malformed."""
    value = row.get(key) or []
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise Malformed(f"field {key!r} is no list of objects")
    return value


def answers(value: Any, report: Report, *, is_regex: bool = False) -> list[str]:
    """Reads answers as they come: a list of texts, one text, or a list written as one text. Raises Malformed.

    A whole number is its digits, an answer of SQuAD's (`{"text": …}`) its text.

    A regular expression may begin with [ too: it is read as a list only if it is one of JSON.
    """
    if isinstance(value, dict) and "text" in value:
        value = value["text"]
    values = [] if value is None else value if isinstance(value, list) else [value]
    found: list[str] = []
    for one in (_text_of(one, report) for one in values):
        inner = _json_list(one) if is_regex else list_in_text(one)
        if inner is not None:
            report(LIST_IN_TEXT)
        elif not is_regex and one.lstrip().startswith(("[", "array(")):
            report(NO_LIST_IN_TEXT)
        found += [one] if inner is None else inner
    return found


def _text_of(answer: Any, report: Report) -> str:
    """Reads one of several answers. Raises Malformed."""
    if isinstance(answer, dict):
        answer = answer.get("text", answer)
    if isinstance(answer, int) and not isinstance(answer, bool):
        report(NUMBER)
        return str(answer)
    if not isinstance(answer, str):
        raise Malformed(f"the answers are no list of texts (one is of the type {type(answer).__name__})")
    return answer


def list_in_text(text: str) -> list[str] | None:
    """Reads a list that JSON or Python wrote as one text, or a tuple, set or array; None if it is none."""
    found, text = _json_list(text), text.strip()
    if array := re.fullmatch(r"array\((\[.*\])(?:,\s*dtype=[^()\[\]]*)?\)", text, re.DOTALL):
        text = array[1]
    elif text[:1] + text[-1:] in ("()", "{}"):
        text = f"[{text[1:-1]}]"
    if found is not None or not _PYTHON_LIST.fullmatch(text):
        return found
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # \d is no escape
            return ast.literal_eval(text)
    except (ValueError, SyntaxError):  # half an escape
        return None


def _json_list(text: str) -> list[str] | None:
    if not re.match(r"\s*\[", text):
        return None
    try:
        return _if_texts(json.loads(text))
    except (ValueError, RecursionError):
        return None


def _if_texts(value: Any) -> list[str] | None:
    return value if isinstance(value, list) and all(isinstance(one, str) for one in value) else None
