"""The block rule against slow, independent implementations."""

import functools
import hashlib
from collections import Counter

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models, normalizers, pre_tokenizers

from realm_jax.config import ConfigError
from realm_jax.data import blocks
from realm_jax.types import Record, Span


@functools.cache
def char_tokenizer() -> tokenizers.Tokenizer:
    """A BERT tokenizer whose wordpieces are single characters, but for `xy`."""
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *".,!?-'", "xy", *letters, *("##" + c for c in letters)]
    vocab = {piece: i for i, piece in enumerate(pieces)}
    tokenizer = tokenizers.Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer


def cut(text: str, *, title: str = "t", block_len_tokens: int = 64, spans=()) -> tuple[blocks.CutRecord, Counter]:
    counts = Counter(dict.fromkeys(blocks.DROPS, 0))

    def tag(sentences, title):
        return [[span for s, span in spans if s == i] for i in range(len(sentences))]

    records = [Record("id", title, text, "file:1")]
    made = blocks.cut(records, tokenizer=char_tokenizer(), tag=tag, block_len_tokens=block_len_tokens, counts=counts)
    return next(made), counts


def slow_pack(lengths, title_len, limit):
    """Every prefix of the remaining sentences is tried: the longest that fits, or one sentence."""
    ranges, first = [], 0
    while first < len(lengths):
        fits = [
            n for n in range(1, len(lengths) - first + 1) if 3 + title_len + sum(lengths[first : first + n]) <= limit
        ]
        # Lengths are positive, so the fitting prefixes are exactly the shorter ones.
        size = max(fits, default=1)
        ranges.append((first, first + size))
        first += size
    return ranges


@given(st.lists(st.integers(1, 60), max_size=40), st.integers(0, 10), st.integers(24, 64))
def test_pack_equals_slow_pack(lengths, title_len, limit):
    assert blocks.pack(lengths, title_len, limit) == slow_pack(lengths, title_len, limit)


@pytest.mark.parametrize(
    "lengths, expected",
    [
        ([], []),
        ([5, 5], [(0, 2)]),  # 3 + 0 + 10 is exactly the limit
        ([5, 6], [(0, 1), (1, 2)]),
        ([3, 50, 3], [(0, 1), (1, 2), (2, 3)]),  # the over-long one stands alone
        ([50, 3, 3], [(0, 1), (1, 3)]),
    ],
)
def test_pack_golden(lengths, expected):
    assert blocks.pack(lengths, 0, 13) == expected


@settings(deadline=None, max_examples=300)
@given(st.text(st.one_of(st.characters(codec="utf-8"), st.sampled_from(" .!?\n\tAaé\u200d日。—…'\"")), max_size=80))
def test_sentences_cover_the_text_in_order(text):
    offsets = blocks.split_sentences(text)
    flat = [place for pair in offsets for place in pair]
    assert flat == sorted(flat)
    for start, limit in offsets:
        sentence = text[start:limit]
        assert sentence and sentence == sentence.strip() and "\n" not in sentence
    assert "".join("".join(text[a:b] for a, b in offsets).split()) == "".join(text.split())


def test_sentences_of_plain_text():
    text = "  Dr. Smith paid $3.5. Then he left!\nA line break ends one\n\nSo — é日本 — it goes.  "
    assert [text[a:b] for a, b in blocks.split_sentences(text)] == [
        "Dr. Smith paid $3.5.",
        "Then he left!",
        "A line break ends one",
        "So — é日本 — it goes.",
    ]


def test_block_holds_joined_sentences_and_their_offsets():
    record, counts = cut("Élan vital.   It is é.\nEnd.")
    (block,) = record.blocks
    assert block.text == "Élan vital. It is é. End."
    body = block.text.encode()
    assert [body[a:b].decode() for a, b, _, _ in block.sentences] == ["Élan vital.", "It is é.", "End."]
    tokens = char_tokenizer().encode(block.text, add_special_tokens=False).ids
    assert block.tokens == tokens
    assert [block.tokens[a:b] for _, _, a, b in block.sentences] == [
        char_tokenizer().encode(s, add_special_tokens=False).ids for s in ("Élan vital.", "It is é.", "End.")
    ]
    assert block.hash == int(hashlib.sha1(f"t <sep> {block.text}".encode()).hexdigest()[:16], 16)
    assert not any(counts.values())


def slow_blocks(title: str, text: str, limit: int) -> list[list[str]]:
    """Sentences of each block: at every sentence the block so far is tokenised anew, with the sentence and without."""
    tokenizer, blocks_, current = char_tokenizer(), [], []
    for start, end in blocks.split_sentences(text):
        sentence = text[start:end]
        if not tokenizer.encode(sentence, add_special_tokens=False).ids:
            continue
        parts = [title, *current, sentence]
        together = 3 + sum(len(tokenizer.encode(part, add_special_tokens=False).ids) for part in parts)
        if current and together > limit:
            blocks_.append(current)
            current = []
        current = [*current, sentence]
    return blocks_ + [current] * bool(current)


WORDS = st.sampled_from(
    ["ab", "Élan", "日本", "xyxyxy", "c-d", "🏞️", "1,000", "e\u0301t", "naïve", "Ω", "a" * 30, "\u200b"]
)
ARTICLES = st.lists(
    st.tuples(st.lists(WORDS, min_size=1, max_size=12), st.sampled_from([". ", "! ", "?\n", "\n\n", " "])), max_size=14
).map(lambda runs: "".join(" ".join(words) + end for words, end in runs))


@settings(deadline=None, max_examples=2000)
@given(ARTICLES, st.sampled_from(["t", "Élan vital", "日本"]), st.integers(24, 64))
def test_blocks_of_random_articles(text, title, limit):
    record, counts = cut(text, title=title, block_len_tokens=limit)
    title_len = len(record.title_tokens)
    found = []
    for block in record.blocks:
        body = block.text.encode()
        sentences = [body[a:b].decode() for a, b, _, _ in block.sentences]
        assert " ".join(sentences) == block.text
        assert len(block.tokens) + 3 + title_len <= limit
        found.append(sentences)
    assert found == slow_blocks(title, text, limit)  # every sentence once, in order
    whole = [len(char_tokenizer().encode(b.text, add_special_tokens=False).ids) + 3 + title_len for b in record.blocks]
    too_long = [n for n, length in enumerate(whole) if length > limit]
    assert all(len(found[n]) == 1 for n in too_long) and counts["truncated_blocks"] == len(too_long)


def test_spans_are_aligned_or_counted():
    spans = [(1, Span(5, 7, "DATE")), (1, Span(0, 2, "ENTITY")), (0, Span(0, 2, "ENTITY"))]
    spans += [(1, Span(2, 4, "ENTITY")), (1, Span(0, 1, "ENTITY"))]  # starts between wordpieces; cuts through one
    record, counts = cut("Xy é. xY é 12.", spans=spans)
    (block,) = record.blocks
    found = [(block.text.encode()[a:b].decode(), kind) for _, a, b, _, _, kind, _ in block.spans]
    assert found == [("Xy", "ENTITY"), ("xY", "ENTITY"), ("12", "DATE")]
    assert counts["misaligned_spans"] == 2 and block.spans[0][6] == block.spans[1][6]
    assert [span[0] for span in block.spans] == [0, 1, 1]


def test_over_long_sentence_is_its_own_block_and_truncated():
    spans = [(1, Span(0, 4, "ENTITY")), (1, Span(40, 44, "ENTITY"))]
    record, counts = cut("Short one. " + "abcd " * 20 + ". Tail here.", block_len_tokens=32, spans=spans)
    assert [len(block.tokens) for block in record.blocks] == [9, 28, 9]
    assert [b.text.split()[0] for b in record.blocks] == ["Short", "abcd", "Tail"]
    assert record.blocks[1].sentences[0][3] == 28
    assert counts["truncated_blocks"] == 1 and counts["spans_beyond_limit"] == 1 and len(record.blocks[1].spans) == 1


def test_title_that_fills_the_block_is_an_error():
    with pytest.raises(
        ConfigError, match=r"file:1: the title of record 'id' has 22 wordpieces.*raise --corpus.block_len"
    ):
        cut("Text.", title="a" * 22, block_len_tokens=32)
    assert cut("Text.", title="a" * 21, block_len_tokens=32)[0].blocks


def test_texts_without_wordpieces_are_counted():
    record, counts = cut("\u200b\n\x00")
    assert record.blocks == [] and counts["empty_records"] == 1 and counts["empty_sentences"] >= 1
