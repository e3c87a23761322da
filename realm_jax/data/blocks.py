"""From records to blocks: sentences, greedy packing, wordpieces and aligned salient spans (Lee et al. 2019, §4.1).

A block is a run of whole sentences of one record, joined by single spaces, of at most `block_len_tokens`
wordpieces counted as `[CLS] title [SEP] body [SEP]`. Everything here is a pure function of its arguments: files are
read in `sources` and written in `corpus`; what a salient span is, is the business of the tagger passed in.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import sentencex

from realm_jax.config import ConfigError
from realm_jax.types import Record, Span

NUM_SPECIALS = 3  # [CLS], and [SEP] after the title and after the body
MIN_BODY_TOKENS = 8  # a title that leaves less room than this is an error of the input
LANGUAGE = "en"
DROPS = (
    "empty_records",
    "titles_too_long",
    "empty_sentences",
    "truncated_blocks",
    "misaligned_spans",
    "spans_beyond_limit",
)

Tagger = Callable[[list[str], str], list[list[Span]]]
"""(sentences of a record, its title) -> spans of each sentence, in characters of that sentence."""


@dataclass
class CutBlock:
    """One block of a record."""

    text: str
    hash: int
    """First 8 bytes of the SHA-1 of `title <sep> body`: blocks with equal text have equal hashes."""
    tokens: list[int] = field(default_factory=list)
    """Wordpieces of the body, cut to the block's room."""
    sentences: list[tuple[int, int, int, int]] = field(default_factory=list)
    """(byte start, byte limit, token start, token limit) within the block."""
    spans: list[tuple[int, int, int, int, int, str, int]] = field(default_factory=list)
    """(sentence, byte start, byte limit, token start, token limit, type, hash of the lower-cased text)."""


@dataclass(frozen=True)
class CutRecord:
    """A record with its wordpieces and blocks."""

    record: Record
    title_tokens: list[int]
    blocks: list[CutBlock]


def split_sentences(text: str) -> list[tuple[int, int]]:
    """Character offsets [start, limit) of the sentences of a text; a line break always ends a sentence."""
    sentences = []
    for line in re.finditer(r"[^\r\n]+", text):
        for boundary in sentencex.get_sentence_boundaries(LANGUAGE, line.group()):
            start, limit = boundary["start_index"], boundary["end_index"]
            sentence = line.group()[start:limit]
            start += len(sentence) - len(sentence.lstrip())
            limit -= len(sentence) - len(sentence.rstrip())
            if start < limit:
                sentences.append((line.start() + start, line.start() + limit))
    return sentences


def pack(sentence_lengths: Sequence[int], title_len: int, block_len_tokens: int) -> list[tuple[int, int]]:
    """Ranges [first, limit) of sentences that form the blocks; lengths are in wordpieces.

    Greedy: a block takes the next sentence while it fits. A sentence that fits in no block is a block of its own.
    """
    room = block_len_tokens - NUM_SPECIALS - title_len
    ranges: list[tuple[int, int]] = []
    first, used = 0, 0
    for i, length in enumerate(sentence_lengths):
        if i > first and used + length > room:
            ranges.append((first, i))
            first, used = i, 0
        used += length
    if first < len(sentence_lengths):
        ranges.append((first, len(sentence_lengths)))
    return ranges


def cut(
    records: Sequence[Record],
    *,
    tokenizer: Any,
    tag: Tagger,
    block_len_tokens: int,
    counts: Counter,
    whole: bool = False,
    long_titles: Literal["refuse", "drop"] = "refuse",
) -> Iterator[CutRecord]:
    """Cuts a batch of records into blocks; what is left out is added to `counts` by reason.

    Args:
        tokenizer: a tokenizers.Tokenizer without truncation and padding.
        counts: gains the reasons in `DROPS`.
        whole: a record is one block, whatever its length.
        long_titles: what becomes of a record whose title leaves no room for a body.

    Raises:
        ConfigError: such a title is refused, or a whole record has no text.
    """
    bounds = [split_sentences(r.text) if r.sentences is None else r.sentences for r in records]
    sentences = [[r.text[a:b] for a, b in of_record] for r, of_record in zip(records, bounds, strict=True)]
    flat = [r.title for r in records] + [sentence for of_record in sentences for sentence in of_record]
    encodings = iter(tokenizer.encode_batch(flat, add_special_tokens=False))
    title_tokens = [next(encodings).ids for _ in records]
    for record, title, places, of_record in zip(records, title_tokens, bounds, sentences, strict=True):
        pairs = [(sentence, next(encodings)) for sentence in of_record]
        if block_len_tokens - NUM_SPECIALS - len(title) < MIN_BODY_TOKENS:
            if long_titles == "drop":
                counts["titles_too_long"] += 1
                continue
            raise ConfigError(
                f"{record.where or record.id}: the title of record {record.id!r} has {len(title)} wordpieces, which "
                f"fills a block of {block_len_tokens}: shorten it or raise --corpus.block_len_tokens"
            )
        full = [(sentence, encoding) for sentence, encoding in pairs if len(encoding)]
        counts["empty_sentences"] += len(pairs) - len(full)
        counts["empty_records"] += not full
        if record.sentences is not None:
            kept = [place for place, (_, encoding) in zip(places, pairs, strict=True) if len(encoding)]
            tags = [_within(record.spans, *place) for place in kept]
        else:
            tags = tag([sentence for sentence, _ in full], record.title) if full else []
        tagged = [(*pair, spans) for pair, spans in zip(full, tags, strict=True)]
        room = block_len_tokens - NUM_SPECIALS - len(title)
        ranges = pack([len(encoding) for _, encoding in full], len(title), block_len_tokens)
        if whole:
            if not full:
                raise ConfigError(f"{record.where or record.id}: has no text, and is to be a block: correct it")
            ranges = [(0, len(full))]
        blocks = [_block(record.title, tagged[first:limit], room, counts) for first, limit in ranges]
        yield CutRecord(record, title, blocks)


def hash64(text: str) -> int:
    """First 8 bytes of the SHA-1 of a text, as an unsigned integer."""
    return int.from_bytes(hashlib.sha1(text.encode()).digest()[:8], "big")


def _within(spans: Sequence[Span], start: int, limit: int) -> list[Span]:
    """The spans inside a sentence, in its characters."""
    return [Span(s.start - start, s.limit - start, s.type) for s in spans if start <= s.start and s.limit <= limit]


def _block(title: str, tagged: list[tuple[str, Any, list[Span]]], room: int, counts: Counter) -> CutBlock:
    text = " ".join(sentence for sentence, _, _ in tagged)
    block = CutBlock(text, hash64(f"{title} <sep> {text}"))
    byte = 0
    for ordinal, (sentence, encoding, spans) in enumerate(tagged):
        token = len(block.tokens)
        block.tokens += encoding.ids
        num_bytes = len(sentence.encode())
        block.sentences.append((byte, byte + num_bytes, token, min(len(block.tokens), room)))
        placed = place_spans(sentence, encoding, spans, byte=byte, token=token, room=room, counts=counts)
        block.spans += [(ordinal, *row) for row in placed]
        byte += num_bytes + 1  # the joining space
    counts["truncated_blocks"] += len(block.tokens) > room
    del block.tokens[room:]
    return block


def place_spans(
    sentence: str, encoding: Any, spans: Sequence[Span], *, byte: int, token: int, room: int, counts: Counter
) -> list[tuple[int, int, int, int, str, int]]:
    """`CutBlock.spans`, without the sentence, of one sentence; those that cannot be masked are counted.

    Args:
        encoding: the sentence's wordpieces.
        byte: where the sentence begins in its block.
        token: the same in wordpieces.
        room: wordpieces of the block's body that are kept.
    """
    rows = []
    for span in sorted(spans, key=lambda s: (s.start, s.limit)):
        aligned = align(encoding, span)
        if aligned is None:
            counts["misaligned_spans"] += 1
        elif token + aligned[1] > room:
            counts["spans_beyond_limit"] += 1
        else:
            start = byte + len(sentence[: span.start].encode())
            string = sentence[span.start : span.limit]
            tokens = (token + aligned[0], token + aligned[1])
            rows.append((start, start + len(string.encode()), *tokens, span.type, hash64(string.lower())))
    return rows


def align(encoding: Any, span: Span) -> tuple[int, int] | None:
    """Wordpieces [start, limit) that cover exactly the span's characters, or None if it cuts through a wordpiece."""
    first = encoding.char_to_token(span.start)
    last = encoding.char_to_token(span.limit - 1)
    if first is None or last is None:
        return None
    if encoding.token_to_chars(first)[0] != span.start or encoding.token_to_chars(last)[1] != span.limit:
        return None
    return first, last + 1
