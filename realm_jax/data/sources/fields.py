"""How each publisher's fields of a record become its id, title and text.

Every function takes any JSON values, and `checked` looks at what it makes of them. It counts what it leaves out of a
text, by reason.
"""

import html
from collections import Counter
from typing import Any

Row = dict[str, Any]
Made = tuple[object, object, object]
"""The id, title and text of a record, not yet checked."""

SECTION, BULLET = "Section::::", "BULLET::::"  # KILT's markers
TITLE_LEN = 200  # characters: a longer first line of `contents` is text
SENTENCE_ENDS = (".", "!", "?", ":", ";")


def _first(row: Row, *keys: str) -> object:
    """Finds the value of the first of these keys that the record has."""
    return next((row[key] for key in keys if row.get(key) is not None), None)


def plain(row: Row, _: Counter) -> Made:
    """Takes `id`, `title` and `text` as they are."""
    return row.get("id"), row.get("title"), row.get("text")


def beir(row: Row, _: Counter) -> Made:
    """Takes BEIR's fields; a missing title is empty."""
    return row.get("_id"), row.get("title") or "", row.get("text")


def tevatron(row: Row, _: Counter) -> Made:
    """Takes the fields of Tevatron's corpora; a missing title is empty."""
    return _first(row, "docid", "doc_id", "document_id"), row.get("title") or "", row.get("text")


def news(row: Row, _: Counter) -> Made:
    """Takes the address as the id; news-please calls the text `maintext`."""
    return row.get("url"), row.get("title"), row.get("text") or row.get("maintext")


def atlas(row: Row, _: Counter) -> Made:
    """Joins title and section to the title, as Atlas does."""
    title, section = row.get("title") or "", row.get("section") or ""
    if isinstance(title, str) and isinstance(section, str):
        title = f"{title}: {section}" if title and section else title or section
    return row.get("id"), title, row.get("text")


def contents(row: Row, _: Counter) -> Made:
    """Splits Anserini's `contents`: a first line that looks like a title is the title."""
    contents = row.get("contents")
    if not isinstance(contents, str) or isinstance(row.get("title"), str):
        return row.get("id"), row.get("title") or "", contents
    first, _, rest = contents.partition("\n")
    first = first.strip()
    is_quoted = len(first) > 2 and first[0] == first[-1] == '"'
    if not rest.strip() or not (is_quoted or 0 < len(first) <= TITLE_LEN and not first.endswith(SENTENCE_ENDS)):
        return row.get("id"), "", contents
    return row.get("id"), first[1:-1].replace('""', '"') if is_quoted else first, rest


def kilt(row: Row, counts: Counter) -> Made:
    """Joins KILT's paragraphs, a paragraph a line, without the title and section headings."""
    record_id, title, text = _first(row, "wikipedia_id", "_id", "kilt_id"), row.get("wikipedia_title"), row.get("text")
    text = text.get("paragraph") if isinstance(text, dict) else text  # as Hugging Face's copy has it
    text = [paragraph for paragraph in text if paragraph is not None] if isinstance(text, list) else text
    if not isinstance(text, list) or not all(isinstance(paragraph, str) for paragraph in text):
        return record_id, title, None
    paragraphs = [paragraph.strip() for paragraph in text]
    if paragraphs and paragraphs[0] == title:
        del paragraphs[0]
    kept = [paragraph for paragraph in paragraphs if not paragraph.startswith(SECTION)]
    counts["section headings"] += len(paragraphs) - len(kept)
    return record_id, title, "\n".join(p.removeprefix(f"{BULLET}- ").removeprefix(BULLET) for p in kept)


def hotpotqa(row: Row, counts: Counter) -> Made:
    """Joins HotpotQA's sentences, a paragraph a line."""
    text = row.get("text")
    paragraphs = text if isinstance(text, list) else [text]
    if all(isinstance(sentence, str) for sentence in paragraphs):
        paragraphs = [paragraphs]
    if not all(isinstance(p, list) and all(isinstance(sentence, str) for sentence in p) for p in paragraphs):
        return row.get("id"), row.get("title"), None
    return plain({**row, "text": "\n".join("".join(sentences).strip() for sentences in paragraphs)}, counts)


def wikiextractor(row: Row, counts: Counter) -> Made:
    """Drops the title's own line; entities become characters."""
    record_id, title, text = plain(row, counts)
    if not isinstance(title, str) or not isinstance(text, str):
        return record_id, title, text
    title, text = html.unescape(title), html.unescape(text).lstrip("\r\n")
    first, _, rest = text.partition("\n")
    return record_id, title, rest if first.strip() == title.strip() else text


def squad(row: Row, _: Counter) -> Made:
    """Takes a paragraph of `squad_json`."""
    return row.get("id"), row.get("title"), row.get("context")
