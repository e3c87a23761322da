"""The block rule against slow, independent implementations."""

import functools
import hashlib
import itertools
from collections import Counter

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import models, normalizers, pre_tokenizers

from realm_jax.config import ConfigError
from realm_jax.data import blocks, pieces, salient
from realm_jax.data import sentences as sentences_lib
from realm_jax.data.sources import sources
from realm_jax.records import Record, Span


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


def encode(text: str) -> list[int]:
    return char_tokenizer().encode(text, add_special_tokens=False).ids


def cut(
    text: str, *, title: str = "t", block_len_tokens: int = 64, spans=(), record=None, **others
) -> tuple[blocks.CutRecord | None, Counter]:
    """The record's blocks and what was counted; `spans` are (number of the sentence, span)."""
    counts = Counter(dict.fromkeys(blocks.DROPS, 0))

    def tag(sentences, title):
        return [[span for s, span in spans if s == i] for i in range(len(sentences))]

    records = [record or Record("id", title, text, "file:1")]
    arguments = {"tokenizer": char_tokenizer(), "tag": tag, "block_len_tokens": block_len_tokens, "counts": counts}
    return next(blocks.cut(records, **(arguments | others)), None), counts


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


def test_sentences_of_a_long_line_are_found_through_a_window(monkeypatch):
    text = " ".join(record.text for record in itertools.islice(sources.read("asset:mini").records(), 40))
    whole = blocks.split_sentences(text.replace("\n", " "))
    monkeypatch.setattr(sentences_lib, "WINDOW_LEN", 1000)
    assert blocks.split_sentences(text.replace("\n", " ")) == whole and len(whole) > 100
    word = "word" * 300
    assert blocks.split_sentences(word) == [(0, 1000), (1000, 1200)]


@pytest.mark.parametrize("piece", ["'", "“A ", "no stops "])
def test_sentences_take_linear_time(linear_time, piece):
    linear_time(blocks.split_sentences, piece, 40_000)


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


def slow_blocks(title: str, sentences: list[str], limit: int) -> list[list[str]]:
    """Sentences of each block: at every sentence the block so far is tokenised anew, with the sentence and without."""
    blocks_, current = [], []
    for sentence in sentences:
        together = 3 + sum(len(encode(part)) for part in [title, *current, sentence])
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


def sentences_of(block: blocks.CutBlock) -> list[str]:
    body = block.text.encode()
    return [body[a:b].decode() for a, b, _, _ in block.sentences]


@settings(deadline=None, max_examples=300)
@given(ARTICLES, st.sampled_from(["t", "Élan vital", "日本"]), st.integers(24, 64))
def test_blocks_of_random_articles(text, title, limit):
    record, counts = cut(text, title=title, block_len_tokens=limit)
    room = limit - 3 - len(record.title_tokens)
    found = [sentences_of(block) for block in record.blocks]
    for block, sentences in zip(record.blocks, found, strict=True):
        assert " ".join(sentences) == block.text
        assert block.tokens == encode(block.text) and len(block.tokens) <= room
        assert [block.tokens[a:b] for _, _, a, b in block.sentences] == [encode(sentence) for sentence in sentences]
    came = [text[a:b] for a, b in blocks.split_sentences(text) if encode(text[a:b])]
    parts = [sentence for sentences in found for sentence in sentences]
    assert found == slow_blocks(title, parts, limit)
    rest = iter(parts)  # every sentence once, in order, in as many parts as it takes
    for sentence in came:
        taken = next(rest)
        assert len(encode(sentence)) > room or taken == sentence
        while len("".join(taken.split())) < len("".join(sentence.split())):
            taken += " " + next(rest)
        assert "".join(taken.split()) == "".join(sentence.split())
    assert counts["split_sentences"] == sum(len(encode(sentence)) > room for sentence in came)
    assert sum(len(block.tokens) for block in record.blocks) == sum(len(encode(sentence)) for sentence in came)
    assert counts["lost_wordpieces"] == counts["truncated_blocks"] == 0


@settings(deadline=None)
@given(ARTICLES.filter(encode), st.sampled_from(["t", "a" * 14]), st.booleans())
def test_what_is_lost_is_counted_in_wordpieces(text, title, whole):
    record, counts = cut(text, title=title, block_len_tokens=24, whole=whole, long_titles="drop")
    kept = [block for block in record.blocks] if record else []
    came = sum(len(encode(text[a:b])) for a, b in blocks.split_sentences(text))
    assert sum(len(block.tokens) for block in kept) + counts["lost_wordpieces"] == came
    assert counts["titles_too_long"] == (len(title) == 14) == (not kept)
    if whole and kept:
        (block,) = kept
        assert block.tokens == encode(block.text) and 0 < len(block.tokens) <= 20
        assert counts["truncated_blocks"] == (counts["lost_wordpieces"] > 0) == (came > 20)
        assert "".join(text.split()).startswith("".join(block.text.split()))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("abc def ghi", ["abc def ghi"]),
        ("abc defg hijk", ["abc defg", "hijk"]),  # 11
        ("abc defg hij klmno", ["abc defg hij", "klmno"]),  # exactly 10
        ("abcdefghi j,k", ["abcdefghi", "j,k"]),  # at the space near the 10th, though a word ends there, too
        ("abc defghijkl", ["abc", "defghijkl"]),  # no space near the 10th: between words all the same
        ("ab,cdefghijkl", ["ab,", "cdefghijkl"]),
        ("日本語の文章は空白がない。長い", ["日本語の文章は空白がない", "。長い"]),
        ("abcdefghijklmnopqrstuvw xyz", ["abcdefghij", "klmnopqrst", "uvw xyz"]),
        ("a bcdefghijklmnopqr", ["a", "bcdefghijk", "lmnopqr"]),
        ("\u200bab\u200bcdefghijkl m", ["\u200bab\u200bcdefghij", "kl m"]),
    ],
)
def test_a_long_sentence_is_cut_at_a_space_or_between_words_or_in_a_word(text, parts):
    tokenizer = char_tokenizer()
    encoding = tokenizer.encode(text, add_special_tokens=False)
    found = pieces.split("__" + text, pieces.Piece(2, 2 + len(text), encoding), 10, tokenizer)
    assert [("__" + text)[a:b] for a, b, _ in found] == parts
    assert [piece.encoding.ids for piece in found] == [encode(part) for part in parts]


def test_words_that_change_where_they_are_cut_still_fit():
    """Behind a cut, `##xy…` is a word: of more wordpieces than within it."""
    vocabulary = {piece: i for i, piece in enumerate(["[UNK]", "a", "x", "y", "##xyxy", "##x", "##y", "##a"])}
    tokenizer = tokenizers.Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    text = "a" * 8 + "xyxy" * 9
    encoding = tokenizer.encode(text, add_special_tokens=False)
    found = pieces.split(text, pieces.Piece(0, len(text), encoding), 8, tokenizer)
    assert "".join(text[a:b] for a, b, _ in found) == text and len(found) > 2
    for a, b, part in found:
        assert part.ids == tokenizer.encode(text[a:b], add_special_tokens=False).ids and len(part.ids) <= 8


def test_spans_are_aligned_or_counted():
    spans = [(1, Span(5, 7, "DATE")), (1, Span(0, 2, "ENTITY")), (0, Span(0, 2, "ENTITY"))]
    spans += [(1, Span(2, 4, "ENTITY")), (1, Span(0, 1, "ENTITY"))]  # starts between wordpieces; cuts through one
    record, counts = cut("Xy é. xY é 12.", spans=spans)
    (block,) = record.blocks
    found = [(block.text.encode()[a:b].decode(), kind) for _, a, b, _, _, kind, _ in block.spans]
    assert found == [("Xy", "ENTITY"), ("xY", "ENTITY"), ("12", "DATE")]
    assert counts["misaligned_spans"] == 2 and block.spans[0][6] == block.spans[1][6]
    assert [span[0] for span in block.spans] == [0, 1, 1]


def test_a_long_sentence_gives_several_blocks_and_spans_stay_with_their_words():
    spans = [(1, Span(0, 4, "ENTITY")), (2, Span(10, 14, "DATE"))]
    record, counts = cut("Short one. " + "abcd " * 20 + ". Tail here.", block_len_tokens=32, spans=spans)
    assert [len(block.tokens) for block in record.blocks] == [9, 28, 28, 25, 9]
    assert [block.text for block in record.blocks][2:] == [" ".join(["abcd"] * 7), "abcd " * 6 + ".", "Tail here."]
    assert [len(block.spans) for block in record.blocks] == [0, 1, 1, 0, 0]
    _, a, b, first, limit, kind, _ = record.blocks[2].spans[0]
    assert (record.blocks[2].text[a:b], first, limit, kind) == ("abcd", 8, 12, "DATE")
    assert counts["split_sentences"] == 1 and counts["lost_wordpieces"] == 0


def test_spans_that_a_source_gives_keep_their_place_or_are_counted():
    text = "é " + "abcd " * 12
    spans = (Span(2, 6, "FIRST"), Span(32, 41, "ACROSS"), Span(37, 41, "SECOND"), Span(57, 61, "THIRD"))
    given_ = Record("id", "t", text, "", ((0, 61),), spans)
    record, counts = cut("", record=given_, block_len_tokens=34)
    assert [block.text for block in record.blocks] == ["é " + "abcd " * 6 + "abcd", "abcd " * 4 + "abcd"]
    found = [(n, b.text.encode()[a:c].decode(), b.tokens[i:j], kind) for n, b in enumerate(record.blocks)
             for _, a, c, i, j, kind, _ in b.spans]  # fmt: skip
    assert found == [(n, "abcd", encode("abcd"), kind) for n, kind in ((0, "FIRST"), (1, "SECOND"), (1, "THIRD"))]
    assert counts["spans_across_cuts"] == 1 and counts["misaligned_spans"] == counts["spans_beyond_limit"] == 0


def test_a_span_beyond_the_wordpieces_that_are_kept_is_counted():
    """In corpora of earlier versions a block's text may go on behind its wordpieces; they can be tagged anew."""
    counts = Counter()
    encoding = char_tokenizer().encode("ab cd", add_special_tokens=False)
    where = {"byte": 10, "token": 4, "room": 7, "counts": counts}
    rows = blocks.place_spans("ab cd", encoding, [Span(0, 2, "KEPT"), Span(3, 5, "LOST")], **where)
    assert [row[:5] for row in rows] == [(10, 12, 4, 6, "KEPT")] and counts == {"spans_beyond_limit": 1}


def test_a_whole_record_is_cut_text_and_wordpieces_alike():
    record, counts = cut("Short one. " + "abcd " * 20 + "Tail here.", block_len_tokens=32, whole=True)
    (block,) = record.blocks
    assert block.text == "Short one. abcd abcd abcd abcd" and block.tokens == encode(block.text)
    assert (counts["truncated_blocks"], counts["lost_wordpieces"]) == (1, 16 * 4 + 9)


@pytest.mark.parametrize("piece", ["abcd ", "a", "日", "a.", "“a” (", "1940 ", "A. "])
def test_an_endless_text_takes_linear_time(linear_time, piece):
    linear_time(lambda text: cut(text, tag=salient.tag_by_rules), piece, 20_000)


def test_title_that_fills_the_block_is_an_error():
    with pytest.raises(
        ConfigError, match=r"file:1: the title of record 'id' has 22 wordpieces.*raise --corpus.block_len"
    ):
        cut("Text.", title="a" * 22, block_len_tokens=32)
    assert cut("Text.", title="a" * 21, block_len_tokens=32)[0].blocks


def test_texts_without_wordpieces_are_counted():
    record, counts = cut("\u200b\n\x00")
    assert record.blocks == [] and counts["empty_records"] == 1 and counts["empty_sentences"] >= 1
