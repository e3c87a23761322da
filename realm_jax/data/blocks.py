"""From records to blocks: sentences, greedy packing, wordpieces and aligned salient spans (Lee et al. 2019, §4.1).

A block is a run of whole sentences of one record, joined by single spaces, of at most `block_len_tokens`
wordpieces counted as `[CLS] title [SEP] body [SEP]`. A sentence longer than that comes in pieces (`pieces`), each of
which is a sentence from then on, for the tagger too. A block's wordpieces are always those of its text. Everything here
is a pure function of its arguments: `sources` reads files, `corpus_writer` writes them, and the tagger that is passed
in decides what a salient span is.
"""

import hashlib
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tokenizers import Encoding, Tokenizer

from realm_jax.config import ConfigError
from realm_jax.data.pieces import Piece, head, split
from realm_jax.data.sentences import split_sentences
from realm_jax.records import Record, Span

NUM_SPECIALS = 3  # [CLS], and [SEP] after the title and after the body
MIN_BODY_TOKENS = 8  # a title that leaves less room than this is an error of the input
SPLIT = "split_sentences"
LOST = "lost_wordpieces"
DROPS = (
    "empty_records",
    "titles_too_long",
    "empty_sentences",
    "truncated_blocks",  # whole records
    "misaligned_spans",
    "spans_beyond_limit",
    "spans_across_cuts",  # of a source with spans of its own
    SPLIT,  # longer than a block; nothing of them is lost
    LOST,  # of the bodies, by titles_too_long and truncated_blocks
)
"""The reasons by which `cut` counts what it leaves out."""

Tagger = Callable[[list[str], str], list[list[Span]]]
"""Maps the sentences of a record, and its title, to the spans of each sentence, in characters of that sentence."""


@dataclass
class CutBlock:
    """One block of a record."""

    text: str
    hash: int
    """The first 8 bytes of the SHA-1 of `title <sep> body`: blocks with equal text have equal hashes."""
    tokens: list[int] = field(default_factory=list)
    """The wordpieces of the text."""
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


def pack(sentence_lengths: Sequence[int], title_len: int, block_len_tokens: int) -> list[tuple[int, int]]:
    """Divides sentences into blocks: ranges [first, limit). Lengths are in wordpieces.

    Greedy: a block takes the next sentence while it fits. One that fits in no block (`cut` passes none) stands alone.
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
    tokenizer: Tokenizer,
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
        whole: a record is one block, cut where it is longer.
        long_titles: what becomes of a record whose title leaves no room for a body.

    Raises:
        ConfigError: such a title is refused, or a whole record has no text.
    """
    titles, sentences = _tokenised(records, tokenizer)
    for record, title, of_record in zip(records, titles, sentences, strict=True):
        room = block_len_tokens - NUM_SPECIALS - len(title)
        if room < MIN_BODY_TOKENS:
            if long_titles == "drop":
                counts["titles_too_long"] += 1
                counts[LOST] += _length(of_record)
                continue
            raise ConfigError(
                f"{record.where or record.id}: the title of record {record.id!r} has {len(title)} wordpieces, which "
                f"fills a block of {block_len_tokens}: shorten it or raise --corpus.block_len_tokens"
            )
        full = [sentence for sentence in of_record if len(sentence.encoding)]
        counts["empty_sentences"] += len(of_record) - len(full)
        counts["empty_records"] += not full
        if whole and not full:
            raise ConfigError(f"{record.where or record.id}: has no text, and is to be a block: correct it")
        if whole:
            parts = _first_block(record.text, full, room, tokenizer, counts)
        else:
            parts = [part for sentence in full for part in split(record.text, sentence, room, tokenizer)]
            counts[SPLIT] += sum(len(sentence.encoding) > room for sentence in full)
        texts = [record.text[part.start : part.limit] for part in parts]
        if record.sentences is not None:
            tags = _given_spans(record.spans, full, parts, counts)
        else:
            tags = tag(texts, record.title) if texts else []
        tagged = [(text, part.encoding, spans) for text, part, spans in zip(texts, parts, tags, strict=True)]
        ranges = pack([len(part.encoding) for part in parts], len(title), block_len_tokens)
        yield CutRecord(record, title, [_block(record.title, tagged[a:b], room, counts) for a, b in ranges])


def hash64(text: str) -> int:
    """Returns the first 8 bytes of the SHA-1 of a text, as an unsigned integer."""
    return int.from_bytes(hashlib.sha1(text.encode()).digest()[:8], "big")


def _tokenised(records: Sequence[Record], tokenizer: Tokenizer) -> tuple[list[list[int]], list[list[Piece]]]:
    """(wordpieces of the titles, sentences of the texts)."""
    bounds = [split_sentences(r.text) if r.sentences is None else r.sentences for r in records]
    texts = [r.text[a:b] for r, of_record in zip(records, bounds, strict=True) for a, b in of_record]
    titles = [encoding.ids for encoding in tokenizer.encode_batch([r.title for r in records], add_special_tokens=False)]
    encodings = iter(tokenizer.encode_batch(texts, add_special_tokens=False))
    return titles, [[Piece(*place, next(encodings)) for place in of_record] for of_record in bounds]


def _length(parts: Sequence[Piece]) -> int:
    """How many wordpieces the parts have."""
    return sum(len(part.encoding) for part in parts)


def _first_block(text: str, sentences: list[Piece], room: int, tokenizer: Tokenizer, counts: Counter) -> list[Piece]:
    """Finds what one block holds of a record; counts the rest."""
    parts: list[Piece] = []
    for sentence in sentences:
        left = room - _length(parts)
        if len(sentence.encoding) > left:
            parts += head(text, sentence, left, tokenizer)
            counts["truncated_blocks"] += 1
            break
        parts.append(sentence)
    counts[LOST] += _length(sentences) - _length(parts)
    return parts


def _given_spans(
    spans: Sequence[Span], sentences: list[Piece], parts: list[Piece], counts: Counter
) -> list[list[Span]]:
    """The source's own spans of each part of a record, in characters of the part; counts those that a cut divides."""
    spans = sorted(spans, key=lambda span: span.start)
    starts = [span.start for span in spans]

    def within(part: Piece) -> list[Span]:
        near = spans[bisect_left(starts, part.start) : bisect_left(starts, part.limit)]
        return [Span(s.start - part.start, s.limit - part.start, s.type) for s in near if s.limit <= part.limit]

    found = [within(part) for part in parts]
    counts["spans_across_cuts"] += sum(len(within(sentence)) for sentence in sentences) - sum(map(len, found))
    return found


def _block(title: str, tagged: list[tuple[str, Any, list[Span]]], room: int, counts: Counter) -> CutBlock:
    text = " ".join(sentence for sentence, _, _ in tagged)
    block = CutBlock(text, hash64(f"{title} <sep> {text}"))
    byte = 0
    for ordinal, (sentence, encoding, spans) in enumerate(tagged):
        token = len(block.tokens)
        block.tokens += encoding.ids
        num_bytes = len(sentence.encode())
        block.sentences.append((byte, byte + num_bytes, token, len(block.tokens)))
        placed = place_spans(sentence, encoding, spans, byte=byte, token=token, room=room, counts=counts)
        block.spans += [(ordinal, *row) for row in placed]
        byte += num_bytes + 1  # the joining space
    return block


def place_spans(
    sentence: str, encoding: Encoding, spans: Sequence[Span], *, byte: int, token: int, room: int, counts: Counter
) -> list[tuple[int, int, int, int, str, int]]:
    """Finds the rows of `CutBlock.spans` of one sentence, without its number; counts spans that cannot be masked.

    Args:
        encoding: the sentence's wordpieces.
        byte: where the sentence begins in its block.
        token: where it begins, in wordpieces.
        room: wordpieces of the block's body that are kept (`cut` keeps all of them, earlier versions did not).
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


def align(encoding: Encoding, span: Span) -> tuple[int, int] | None:
    """Finds the wordpieces [start, limit) that are exactly the span, or None if it cuts through a wordpiece."""
    first = encoding.char_to_token(span.start)
    last = encoding.char_to_token(span.limit - 1)
    if first is None or last is None:
        return None
    if encoding.token_to_chars(first)[0] != span.start or encoding.token_to_chars(last)[1] != span.limit:
        return None
    return first, last + 1
