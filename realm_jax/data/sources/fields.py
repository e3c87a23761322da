"""From the fields of a record, as one publisher names them, to its id, title and text.

Every function takes any JSON values: `checked` looks at what came of them. What one leaves out of a text it counts, by
reason.
"""

import html
from collections import Counter
from typing import Any

Row = dict[str, Any]
Made = tuple[object, object, object]
"""id, title and text of a record, not yet looked at."""

SECTION, BULLET = "Section::::", "BULLET::::"  # KILT's markers
TITLE_LEN = 200  # characters: a longer first line of `contents` is text
SENTENCE_ENDS = (".", "!", "?", ":", ";")


def _first(row: Row, *keys: str) -> object:
    """The value of the first of these keys that the record has."""
    return next((row[key] for key in keys if row.get(key) is not None), None)


def plain(row: Row, counts: Counter) -> Made:
    """The fields of those names."""
    del counts
    return row.get("id"), row.get("title"), row.get("text")


def beir(row: Row, counts: Counter) -> Made:
    """BEIR's names; no title is an empty one."""
    del counts
    return row.get("_id"), row.get("title") or "", row.get("text")


def tevatron(row: Row, counts: Counter) -> Made:
    """The names that Tevatron's corpora have; no title is an empty one."""
    del counts
    return _first(row, "docid", "doc_id", "document_id"), row.get("title") or "", row.get("text")


def news(row: Row, counts: Counter) -> Made:
    """The address is the id; news-please calls the text `maintext`."""
    del counts
    return row.get("url"), row.get("title"), row.get("text") or row.get("maintext")


def atlas(row: Row, counts: Counter) -> Made:
    """Title and section are the title, as Atlas joins them."""
    del counts
    title, section = row.get("title") or "", row.get("section") or ""
    if isinstance(title, str) and isinstance(section, str):
        title = f"{title}: {section}" if title and section else title or section
    return row.get("id"), title, row.get("text")


def contents(row: Row, counts: Counter) -> Made:
    """Anserini's `contents`: a first line that looks like a title is one."""
    del counts
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
    """KILT's paragraphs, without title and section headings, a paragraph a line."""
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
    """HotpotQA's sentences, joined; a paragraph a line."""
    text = row.get("text")
    paragraphs = text if isinstance(text, list) else [text]
    if all(isinstance(sentence, str) for sentence in paragraphs):
        paragraphs = [paragraphs]
    if not all(isinstance(p, list) and all(isinstance(sentence, str) for sentence in p) for p in paragraphs):
        return row.get("id"), row.get("title"), None
    return plain({**row, "text": "\n".join("".join(sentences).strip() for sentences in paragraphs)}, counts)


def wikiextractor(row: Row, counts: Counter) -> Made:
    """Without the title's own line; entities are characters."""
    record_id, title, text = plain(row, counts)
    if not isinstance(title, str) or not isinstance(text, str):
        return record_id, title, text
    title, text = html.unescape(title), html.unescape(text).lstrip("\r\n")
    first, _, rest = text.partition("\n")
    return record_id, title, rest if first.strip() == title.strip() else text


def squad(row: Row, counts: Counter) -> Made:
    """A paragraph of `squad_json`."""
    del counts
    return row.get("id"), row.get("title"), row.get("context")
