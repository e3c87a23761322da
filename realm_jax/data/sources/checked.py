"""Which records are whole: an id, a title, and a text with letters in it, all of which can be written as UTF-8."""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator

from realm_jax.data.lost import RECORDS_LOST, RECORDS_READ
from realm_jax.records import Record


def checked_record(record_id: object, title: object, text: object, where: str = "") -> tuple[Record | None, str]:
    """Makes a record: (record or None, the reason why it is left out, or ""). "empty text" comes with its record.

    Args:
        where: file and line, for error messages.
    """
    if isinstance(record_id, float) and record_id.is_integer():  # tables with gaps make floats of whole numbers
        record_id = int(record_id)
    if isinstance(record_id, bool) or not isinstance(record_id, str | int) or record_id == "":
        return None, "without id"
    if not isinstance(title, str):
        return None, "without title"
    if not isinstance(text, str):
        return None, "without text"
    record = Record(str(record_id), title, text, where or f"record {record_id}")
    if "\x00" in title + text or _is_broken(record.id + title + text):
        return None, "not text"
    return record, "" if has_letters(text) else "empty text"


def has_letters(text: str) -> bool:
    """Whether a text has any character that is neither a space nor invisible."""
    return any(unicodedata.category(character)[0] not in "CZ" for character in text)


def counted(found: Iterable[tuple[Record | None, str]], counts: Counter) -> Iterator[Record]:
    """Yields the records among (record, the reason why it is left out); counts all of them, and the reasons."""
    for record, reason in found:
        counts[RECORDS_READ] += 1
        if record is None:
            counts[RECORDS_LOST] += 1
        if reason or record is None:
            counts[reason] += 1
        else:
            yield record


def _is_broken(text: str) -> bool:
    """Whether a text cannot be written as UTF-8: JSON can spell half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False
