"""Token ids equal those of an independent implementation, and offsets point at what they stand for."""

import json
import pathlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from make_golden_tokens import digest, sentences

from realm_jax.data import assets, run_tokenizer
from realm_jax.model_folder.wordpiece import bert

GOLDEN = json.loads(pathlib.Path(__file__).with_name("golden_tokens.json").read_text())


@pytest.fixture(scope="module")
def tokenizer():
    """BERT's uncased vocabulary, from an asset."""
    return run_tokenizer.from_checkpoint(assets.fetch("asset:bert-tiny"))


def check_offsets(tokenizer, text: str) -> None:
    """The normalised slice of the text is the piece; pieces of one letter (a Hangul syllable) share their slice."""
    encoding, groups = tokenizer.encode(text, add_special_tokens=False), []
    for piece, (start, limit) in zip(encoding.tokens, encoding.offsets, strict=True):
        assert 0 <= start < limit <= len(text)
        if groups and start < groups[-1][1]:
            groups[-1] = (groups[-1][0], limit, groups[-1][2] + piece.removeprefix("##"))
        else:
            groups.append((start, limit, piece.removeprefix("##")))
    assert [group[:2] for group in groups] == sorted(group[:2] for group in groups)
    for start, limit, pieces in groups:
        if "[UNK]" not in pieces:
            assert tokenizer.normalizer.normalize_str(text[start:limit]).strip() == pieces, (text, start, limit)


@pytest.mark.slow
def test_ids_of_our_sentences(tokenizer):
    for case in GOLDEN["ours"]:
        assert tokenizer.encode(case["text"], add_special_tokens=False).ids == case["ids"], case["text"]


@pytest.mark.slow
def test_ids_of_real_sentences(tokenizer):
    texts = sentences(assets.fetch("asset:wiki-leads"))
    encodings = tokenizer.encode_batch(texts, add_special_tokens=False)
    golden = [GOLDEN["wiki_leads"][i : i + 8] for i in range(0, len(GOLDEN["wiki_leads"]), 8)]
    assert len(golden) == len(texts) == 10_000
    wrong = [text for text, e, expected in zip(texts, encodings, golden, strict=True) if digest(e.ids) != expected]
    assert not wrong, f"{len(wrong)} differ, the first: {wrong[:3]}"


@pytest.mark.slow
def test_offsets_of_real_sentences(tokenizer):
    for text in sentences(assets.fetch("asset:wiki-leads"))[:2000]:
        check_offsets(tokenizer, text)


@given(st.text(st.sampled_from("abcAÉéñ\u0301 ·東京\t\x00.,-'1½İ한\u1112\u1161🦊\u200b"), max_size=40))
def test_offsets_of_any_text(text):
    check_offsets(_small(), text)


def _small():
    pieces = [*run_tokenizer.SPECIALS, *"abcaen東京.,-'1i", *(f"##{c}" for c in "abcaen1i")]
    return bert({piece: i for i, piece in enumerate(dict.fromkeys(pieces))})
