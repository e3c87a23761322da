"""Finds a question's answers in blocks: the labels of fine-tuning, and what counts for recall.

Two rules say that a block has an answer. `substring`: its text has the answer byte by byte, upper and lower case being
different (the released fine-tuning). `wordpieces`: its wordpieces have the answer's in a row, so that "art" is not in
"party" and case does not matter (the released reader's spans). A word that the vocabulary lacks is [UNK] like any other
such word: where an answer has one, the text must have the same word. Under both, the answers of a set of regular
expressions are whatever they match anywhere in a text.
"""

import bisect
import contextlib
import functools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int
from tokenizers import Tokenizer

from realm_jax.data.corpus import Corpus
from realm_jax.data.questions.patterns import MALFORMED, compiled
from realm_jax.openqa.bodies import joined, stored
from realm_jax.openqa.signatures import Signatures
from realm_jax.records import Question
from realm_jax.scores.answers import REGEX_TIMEOUT_S

Rule = Literal["substring", "wordpieces"]
ALL_TEXTS_TIMEOUT_S = 60.0  # for one expression and all texts of a question; each text has its own limit, too
REMEMBERED_BLOCKS = 1 << 16  # blocks whose unknown words are kept, since some blocks are found often
LONGEST_MATCH = 200  # characters; what matches more, as `.*` does, is no span of a few wordpieces


class AnswerFinder:
    """Finds answers in the blocks of one corpus. Answers are tokenised once; blocks are read as they were stored."""

    def __init__(self, corpus: Corpus, tokenizer: Tokenizer):
        self._corpus, self._tokenizer = corpus, tokenizer
        self._unknown_id = tokenizer.token_to_id("[UNK]")
        self._wordpieces: dict[str, tuple[np.ndarray, dict[int, str]]] = {}
        self._unknown_in_block = functools.lru_cache(REMEMBERED_BLOCKS)(self._read_unknown)
        self._signatures = functools.cache(functools.partial(Signatures, corpus))  # by column
        self.bad_patterns: set[str] = set()
        """Regular expressions that are malformed, or took too long on one text or on many; they are not tried again."""

    def holds(self, question: Question, blocks: Int[np.ndarray, " blocks"], rule: Rule) -> Bool[np.ndarray, " blocks"]:
        """Whether each block has one of the answers; a block of -1 has none."""
        result = np.zeros(len(blocks), bool)
        real = np.flatnonzero(blocks >= 0)
        if question.is_regex:
            texts = [bytes(piece).decode() for piece in stored(self._corpus, blocks[real], "text")]
            result[real[self._matched(question, texts)]] = True
            return result
        has = self._have_text if rule == "substring" else self._have_wordpieces
        for answer in question.answers:
            result[real[has(answer, blocks[real])]] = True
        return result

    def each_holds(
        self, questions: Sequence[Question], blocks: Int[np.ndarray, "questions blocks"], rule: Rule
    ) -> Bool[np.ndarray, "questions blocks"]:
        """`holds` of each question and its own row of blocks."""
        return np.stack([self.holds(question, row, rule) for question, row in zip(questions, blocks, strict=True)])

    def spans(
        self, question: Question, blocks: Int[np.ndarray, " blocks"], max_width: int
    ) -> Int[np.ndarray, "spans 3"]:
        """Every place of an answer of at most `max_width` wordpieces, sorted, each once.

        A place is (row of `blocks`, first, last wordpiece of the body).
        """
        real = np.flatnonzero(blocks >= 0)
        answers = question.answers
        if question.is_regex:
            texts = [bytes(piece).decode() for piece in stored(self._corpus, blocks[real], "text")]
            answers = self._matches(question, texts)
        tokens, starts = self._tokens(blocks[real])
        found: set[tuple[int, int, int]] = set()
        for answer in answers:
            rows, firsts, width = self._places(answer, blocks[real], tokens, starts)
            if width <= max_width:
                places = zip(real[rows].tolist(), firsts.tolist(), strict=True)
                found.update((row, first, first + width - 1) for row, first in places)
        return np.array(sorted(found), np.int64).reshape(-1, 3)

    def _places(
        self, answer: str, blocks: np.ndarray, tokens: np.ndarray, starts: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, int]:
        """(row of `blocks`, first wordpiece of its body) of every place of an answer, and how many wordpieces it has.

        Args:
            tokens, starts: of the blocks, as `_tokens` gives them.
        """
        wanted, unknown = self._encode(answer)
        found = _positions(tokens, wanted)
        rows = np.searchsorted(starts, found, side="right") - 1
        firsts = found - starts[rows]
        if unknown:
            same = np.array([self._has(int(b), int(at), unknown) for b, at in zip(blocks[rows], firsts, strict=True)])
            rows, firsts = rows[same.astype(bool)], firsts[same.astype(bool)]
        return rows, firsts, len(wanted)

    def _encode(self, answer: str) -> tuple[np.ndarray, dict[int, str]]:
        """An answer's wordpieces, and its unknown words by their place among them."""
        if answer not in self._wordpieces:
            ids = self._tokenizer.encode(answer, add_special_tokens=False).ids
            self._wordpieces[answer] = np.array(ids, np.uint16), self._unknown(answer)
        return self._wordpieces[answer]

    def _has(self, block: int, first: int, unknown: dict[int, str]) -> bool:
        """Whether a block has these unknown words from its wordpiece `first` on."""
        own = self._unknown_in_block(block)
        return all(own.get(first + at) == word for at, word in unknown.items())

    def _read_unknown(self, block: int) -> dict[int, str]:
        """Unknown words of a block by their wordpiece; sentences were tokenised one by one when it was stored."""
        text = self._corpus.block(block).text.encode()
        found = {}
        for sentence in self._corpus.sentences(block):
            part = text[int(sentence["byte_start"]) : int(sentence["byte_limit"])].decode()
            found.update({int(sentence["token_start"]) + at: word for at, word in self._unknown(part).items()})
        return found

    def _unknown(self, text: str) -> dict[int, str]:
        """Wordpiece -> what is written there, as the vocabulary normalises it, for every [UNK] of a text."""
        encoding, normalizer = self._tokenizer.encode(text, add_special_tokens=False), self._tokenizer.normalizer
        return {
            at: normalizer.normalize_str(text[start:limit]).strip()
            for at, (piece, (start, limit)) in enumerate(zip(encoding.ids, encoding.offsets, strict=True))
            if piece == self._unknown_id
        }

    def _tokens(self, blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The bodies' wordpieces one after the other, and where each begins."""
        data, starts = joined(self._corpus, blocks, "tokens")
        return np.frombuffer(data, np.uint16), starts

    def _have_wordpieces(self, answer: str, blocks: np.ndarray) -> np.ndarray:
        """Rows of the blocks that have an answer's wordpieces; a row may come twice."""
        wanted, _ = self._encode(answer)
        rows = self._signatures("tokens").may_have(blocks, wanted.tobytes())
        return rows[self._places(answer, blocks[rows], *self._tokens(blocks[rows]))[0]]

    def _have_text(self, answer: str, blocks: np.ndarray) -> np.ndarray:
        """Rows of the blocks that have an answer byte by byte."""
        wanted = answer.encode()
        if not wanted:
            return np.empty(0, np.int64)
        rows = self._signatures("text").may_have(blocks, wanted)
        text, starts = joined(self._corpus, blocks[rows], "text")
        return rows[list(_rows_with(lambda at: text.find(wanted, at), [*starts[1:].tolist(), len(text)]))]

    def _matched(self, question: Question, texts: list[str]) -> list[int]:
        rows: list[int] = []
        for pattern in question.answers:
            with _guarded(pattern, self.bad_patterns) as matches:
                rows += [row for row, text in enumerate(texts) if any(matches(text))]
        return rows

    def _matches(self, question: Question, texts: list[str]) -> set[str]:
        """All different strings that the question's expressions match in the texts."""
        found: set[str] = set()
        for pattern in question.answers:
            with _guarded(pattern, self.bad_patterns) as matches:
                found |= {match for text in texts for match in matches(text) if len(match) <= LONGEST_MATCH}
        return found


@contextlib.contextmanager
def _guarded(pattern: str, bad: set[str]) -> Iterator[Callable[[str], Iterator[str]]]:
    """Gives a `with` block a function from a text to all that an expression matches there; empty matches are skipped.

    An expression that takes too long ends the block. It is added to `bad`, as a malformed one is, and matches nothing
    from then on.
    """
    ends = time.monotonic() + ALL_TEXTS_TIMEOUT_S
    try:
        expression = None if pattern in bad else compiled(pattern)
    except MALFORMED:
        bad.add(pattern)
        expression = None

    def matches(text: str) -> Iterator[str]:
        if expression is None:
            return
        if time.monotonic() > ends:
            raise TimeoutError(pattern)
        yield from (m.group() for m in expression.finditer(text, timeout=REGEX_TIMEOUT_S) if m.group())

    try:
        yield matches
    except TimeoutError:
        bad.add(pattern)


def _rows_with(find, ends: list[int]) -> Iterator[int]:
    """Rows of a joined text in which `find(start)` finds something; each row once."""
    at = find(0)
    while at >= 0:
        row = bisect.bisect_right(ends, at)
        yield row
        at = find(ends[row]) if row + 1 < len(ends) else -1


def _positions(tokens: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Where `wanted` begins in `tokens`."""
    if not len(wanted) or len(wanted) > len(tokens):
        return np.empty(0, np.int64)
    found = np.flatnonzero(tokens[: len(tokens) - len(wanted) + 1] == wanted[0])
    for offset in range(1, len(wanted)):
        found = found[tokens[found + offset] == wanted[offset]]
    return found
