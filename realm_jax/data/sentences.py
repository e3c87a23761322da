"""How a text is split into sentences, by the library sentencex."""

import re
from collections.abc import Iterator

import sentencex

from realm_jax.data.pieces import stripped

LANGUAGE = "en"
WINDOW_LEN = 20_000  # characters of a line that are looked at together


def split_sentences(text: str) -> list[tuple[int, int]]:
    """Finds the sentences of a text, as characters [start, limit); a line break always ends a sentence."""
    sentences = []
    for line in re.finditer(r"[^\r\n]+", text):
        for start, limit in _sentences_of(line.group()):
            start, limit = stripped(text, line.start() + start, line.start() + limit)
            if start < limit:
                sentences.append((start, limit))
    return sentences


def _sentences_of(line: str) -> Iterator[tuple[int, int]]:
    """Finds the sentences of a line, a window at a time: sentencex takes quadratic time for some texts."""
    start = 0
    while start < len(line):
        limit = start + WINDOW_LEN
        if limit < len(line):
            limit = line.rfind(" ", start, limit) + 1 or limit
        found = sentencex.get_sentence_boundaries(LANGUAGE, line[start:limit])
        if limit < len(line) and len(found) > 1:
            found.pop()  # it may go on in the next window
        for boundary in found:
            yield start + boundary["start_index"], start + boundary["end_index"]
        start += (found[-1]["end_index"] if found else 0) or limit - start
