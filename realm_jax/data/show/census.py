"""What a corpus holds, counted over its memory maps a part of the blocks at a time: sizes, lengths, spans, drops.

Everything that is stored counts, tombstones too, so that the numbers are those of the manifest. No text is read but
that of the most frequent spans.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Int64

from realm_jax.data import lost
from realm_jax.data.blocks import LOST, NUM_SPECIALS, SPLIT
from realm_jax.data.corpus import Corpus
from realm_jax.data.manifest import AS_GIVEN
from realm_jax.data.segment import Segment

PART_BLOCKS = 1 << 18  # blocks counted together
SORTED_SPANS = 1 << 24  # spans whose texts are sorted together: 128 MiB
READ = ("pages", "records")  # counts of what a source had, whatever became of it
NOT_LEFT_OUT = frozenset((*READ, SPLIT, LOST, lost.BYTES_READ, lost.BYTES_LOST, lost.RECORDS_LOST))  # no reasons
TYPE_MIX = np.uint64(0x9E3779B97F4A7C15)  # odd: types of the same text get keys far apart


@dataclass(frozen=True)
class FrequentSpan:
    """A text that is often a span. Spans of one type whose texts differ in case alone are the same."""

    text: str
    """The text as it stands where it occurs first."""
    type: str
    count: int


@dataclass
class Census:
    """What was counted in a corpus. A histogram, of longest + 1 numbers, says how many have each length."""

    articles: int = 0
    blocks: int = 0
    sentences: int = 0
    spans: int = 0
    deleted_blocks: int = 0
    """Tombstones; they count in everything else, too."""
    spans_by_type: Counter = field(default_factory=Counter)
    wordpieces_of_block: Int64[np.ndarray, " wordpieces"] = field(default_factory=lambda: np.zeros(0, np.int64))
    """A block's wordpieces are those of `[CLS] title [SEP] body [SEP]`."""
    sentences_of_block: Int64[np.ndarray, " sentences"] = field(default_factory=lambda: np.zeros(0, np.int64))
    blocks_of_article: Int64[np.ndarray, " blocks"] = field(default_factory=lambda: np.zeros(0, np.int64))
    spans_of_sentence: Int64[np.ndarray, " spans"] = field(default_factory=lambda: np.zeros(0, np.int64))


def take(corpus: Corpus) -> Census:
    """Counts what a corpus holds."""
    census = Census(deleted_blocks=len(corpus.tombstones))
    for segment in corpus.segments:
        census.articles += len(segment.sources)
        census.blocks += len(segment.blocks)
        census.sentences += len(segment.sentences)
        census.spans += len(segment.spans)
        in_article = segment.sources["block_limit"] - segment.sources["block_start"]
        census.blocks_of_article = _add(census.blocks_of_article, in_article)
        for blocks, spans in _parts(segment):
            source = segment.sources[blocks["source"]]
            titles = source["title_token_limit"] - source["title_token_start"]
            lengths = blocks["token_limit"] - blocks["token_start"] + titles + np.uint64(NUM_SPECIALS)
            census.wordpieces_of_block = _add(census.wordpieces_of_block, lengths)
            in_block = blocks["sentence_limit"] - blocks["sentence_start"]
            census.sentences_of_block = _add(census.sentences_of_block, in_block)
            first = blocks["sentence_start"][0]
            sentence = segment.blocks["sentence_start"][spans["block"]] + spans["sentence"] - first
            num_sentences = int(blocks["sentence_limit"][-1] - first)
            in_sentence = np.bincount(sentence.astype(np.int64), minlength=num_sentences)
            census.spans_of_sentence = _add(census.spans_of_sentence, in_sentence)
            of_type = np.bincount(spans["type"], minlength=len(segment.span_types))
            census.spans_by_type.update(dict(zip(segment.span_types, of_type.tolist(), strict=True)))
    return census


def frequent_spans(corpus: Corpus, count: int) -> list[FrequentSpan]:
    """The spans of the most frequent texts, the most frequent first; equally frequent ones by text.

    Texts are told apart by the hashes that the corpus stores. Memory is bounded by SORTED_SPANS: a larger corpus is
    read several times, each time for a share of the hashes.
    """
    types = sorted({name for segment in corpus.segments for name in segment.span_types})
    shares = 1 + sum(len(segment.spans) for segment in corpus.segments) // SORTED_SPANS
    best: list[tuple[int, int]] = []  # (count, key)
    for share in range(shares):
        parts = [np.empty(0, np.uint64)]
        for segment in corpus.segments:
            for _, spans in _parts(segment):
                keys = _keys(spans, segment, types)
                parts.append(keys[spans["text_hash"] % np.uint64(shares) == share] if shares > 1 else keys)
        keys, counts = np.unique(np.concatenate(parts), return_counts=True)
        top = np.argsort(-counts, kind="stable")[:count]
        best += zip(counts[top].tolist(), keys[top].tolist(), strict=True)
    count_of = {key: number for number, key in sorted(best, key=lambda pair: (-pair[0], pair[1]))[:count]}
    found = [FrequentSpan(*place, count_of[key]) for key, place in _texts(corpus, types, list(count_of)).items()]
    return sorted(found, key=lambda span: (-span.count, span.text, span.type))


def was_read(manifest: dict) -> list[tuple[str, int]]:
    """Lists (what, how many) for the pages or records that the source had, whatever became of them."""
    counts = manifest.get("build", {}).get("counts", {})
    return [(what, counts[what]) for what in READ if what in counts]


def dropped(manifest: dict) -> list[tuple[str, str, int]]:
    """Lists (when, reason, how many) for what was left out, on reading the source and on cutting it."""
    stages = {"reading": manifest.get("build", {}).get("counts", {}), "cutting": cutting_counts(manifest)}
    rows = [(when, reason, number) for when, counts in stages.items() for reason, number in counts.items()]
    return [(when, reason.replace("_", " "), number) for when, reason, number in rows if reason not in NOT_LEFT_OUT]


def cutting_counts(manifest: dict) -> Counter:
    """Adds up the counts of `blocks.DROPS` over all segments."""
    counts = Counter()
    for entry in manifest["segments"]:
        counts.update(entry["counts"])
    return counts


def exceeding(manifest: dict) -> list[str]:
    """Says how many blocks came too long, where the source gave the blocks; an empty list for other corpora."""
    if manifest.get("blocks") != AS_GIVEN:
        return []
    blocks = sum(entry["num_blocks"] for entry in manifest["segments"])
    number = cutting_counts(manifest)["truncated_blocks"]
    length = manifest["block_len_tokens"]
    return [f"blocks as they came: {number:,} of {blocks:,} ({number / max(1, blocks):.1%}) exceed {length} wordpieces"]


def _parts(segment: Segment) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields (BLOCK rows, SPAN rows of these blocks), a part of the segment at a time."""
    for start in range(0, len(segment.blocks), PART_BLOCKS):
        blocks = segment.blocks[start : start + PART_BLOCKS]
        yield blocks, segment.spans[int(blocks["span_start"][0]) : int(blocks["span_limit"][-1])]


def _add(histogram: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Counts more lengths into a histogram, which becomes longer if need be."""
    counts = np.bincount(lengths.astype(np.int64))
    size = max(len(histogram), len(counts))
    return np.pad(histogram, (0, size - len(histogram))) + np.pad(counts, (0, size - len(counts)))


def _keys(spans: np.ndarray, segment: Segment, types: list[str]) -> np.ndarray:
    """uint64 [spans]: a key of text and type. `types` are those of the corpus, since each segment numbers its own."""
    mix = np.array([types.index(name) for name in segment.span_types], np.uint64) * TYPE_MIX
    return spans["text_hash"] ^ mix[spans["type"]]


def _texts(corpus: Corpus, types: list[str], keys: list[int]) -> dict[int, tuple[str, str]]:
    """(text, type) of the first span with each key."""
    missing, found = np.array(sorted(keys), np.uint64), {}
    for segment in corpus.segments:
        for _, spans in _parts(segment):
            if not len(missing):
                return found
            own = _keys(spans, segment, types)
            at = np.flatnonzero(np.isin(own, missing))
            new, firsts = np.unique(own[at], return_index=True)
            for key, span in zip(new.tolist(), spans[at[firsts]], strict=True):
                begin = int(segment.blocks["text_start"][span["block"]])
                text = segment.text[begin + int(span["byte_start"]) : begin + int(span["byte_limit"])]
                found[key] = text.tobytes().decode(), segment.span_types[span["type"]]
            missing = np.setdiff1d(missing, new)
    return found
