"""Sentences longer than a block, in pieces that fit: cut at a space near the limit, else between words, else in a word.

Every piece is tokenised by itself, so that its wordpieces are those of its text.
"""

from typing import NamedTuple

from tokenizers import Encoding, Tokenizer

NEAR = 4  # a space is near the limit in the last 1 / NEAR of a piece


class Piece(NamedTuple):
    """A run of a record's text, a sentence or a piece of one, with its wordpieces."""

    start: int
    """First character in the record's text."""
    limit: int
    """One past the last."""
    encoding: Encoding
    """The encoding of that text alone, without special tokens: a tokenizers.Encoding."""


def split(text: str, sentence: Piece, room: int, tokenizer: Tokenizer) -> list[Piece]:
    """Splits a sentence of a record's text into pieces of at most `room` wordpieces; a shorter one stays whole.

    Nothing but white space at the cuts is left out. The wordpieces stay the same, except where a single word is longer
    than `room`: what comes behind a cut within a word is tokenised as a word.

    Args:
        room: at least as many wordpieces as a character can have; 8 are enough.
    """
    if len(sentence.encoding) <= room:
        return [sentence]
    cuts, token = [sentence.start], 0
    layout = _Layout(text[sentence.start : sentence.limit], sentence.encoding)
    while len(layout.words) - token > room:
        token = layout.cut(token, room)
        cuts.append(sentence.start + layout.offsets[token][0])
    cuts.append(sentence.limit)
    places = [stripped(text, a, b) for a, b in zip(cuts, cuts[1:], strict=False)]
    encodings = tokenizer.encode_batch([text[a:b] for a, b in places], add_special_tokens=False)
    pieces = [Piece(*place, encoding) for place, encoding in zip(places, encodings, strict=True)]
    return [part for piece in pieces for part in split(text, piece, room, tokenizer)]


def head(text: str, sentence: Piece, room: int, tokenizer: Tokenizer) -> list[Piece]:
    """Finds the first piece of a longer sentence, of at most `room` wordpieces; an empty list if not even one fits."""
    layout = _Layout(text[sentence.start : sentence.limit], sentence.encoding)
    token = layout.cut(0, room) if room else 0
    if not token:
        return []
    start, limit = stripped(text, sentence.start, sentence.start + layout.offsets[token][0])
    return [Piece(start, limit, tokenizer.encode(text[start:limit], add_special_tokens=False))]


class _Layout:
    """Where the wordpieces of a text stand in it."""

    def __init__(self, text: str, encoding: Encoding):
        self._text = text
        self.offsets: list[tuple[int, int]] = encoding.offsets
        self.words: list[int | None] = encoding.word_ids

    def cut(self, first: int, room: int) -> int:
        """Finds the wordpiece before which the piece from `first` on ends; `first` itself if there is none."""
        last = first + room
        near = range(last, last - max(1, room // NEAR), -1)
        between = range(last, first, -1)
        by_preference = (
            (i for i in near if self._is_new_word(i) and any(map(str.isspace, self._text[slice(*self._gap(i))]))),
            (i for i in between if self._is_new_word(i)),
            (i for i in between if self._gap(i)[0] <= self._gap(i)[1]),  # several wordpieces may share a character
        )
        return next((i for cuts in by_preference for i in cuts), first)

    def _is_new_word(self, i: int) -> bool:
        return self.words[i] != self.words[i - 1]

    def _gap(self, i: int) -> tuple[int, int]:
        """Characters [start, limit) between a wordpiece and the one before it."""
        return self.offsets[i - 1][1], self.offsets[i][0]


def stripped(text: str, start: int, limit: int) -> tuple[int, int]:
    """Narrows characters [start, limit) to those without white space at both ends; empty if there is nothing else."""
    piece = text[start:limit]
    return start + len(piece) - len(piece.lstrip()), limit - (len(piece) - len(piece.rstrip()))
