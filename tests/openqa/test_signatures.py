"""Signatures never lose a block that has what is wanted, and leave few others, against searches in plain Python."""

import json
import random
import re
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from realm_jax.data import assets, corpus_writer
from realm_jax.openqa import signatures
from realm_jax.openqa.signatures import Signatures
from realm_jax.records import Record

ITEM = {"text": 1, "tokens": 2}


def body(corpus, column, block) -> bytes:
    return corpus.block(block).text.encode() if column == "text" else corpus.body(block).tobytes()


def has(body: bytes, wanted: bytes, item: int) -> bool:
    """Whether `wanted` stands in a body, and begins where an item of so many bytes does."""
    return any(body[at : at + len(wanted)] == wanted for at in range(0, len(body) - len(wanted) + 1, item))


def wanted_from(rng: random.Random, bodies: list[bytes], item: int) -> bytes:
    """A piece from the start, the middle or the end of a body, a whole one or more, or what joins two."""
    one, other = rng.choice(bodies), rng.choice(bodies)
    size = item * rng.choice([0, 1, 2, 3, 4, 9])
    start = item * rng.randrange(len(one) // item)
    longer = rng.choice([one, one + other[:item], one + other])
    return rng.choice([one[:size], one[start : start + size], one[-size:], longer, one[-size:] + other[:size]])


@pytest.mark.parametrize("column", ["text", "tokens"])
def test_no_block_that_has_it_is_lost(random_corpora, column, monkeypatch):
    monkeypatch.setattr(signatures, "MADE_AT_ONCE", 3)
    found = lost = 0
    for seed, corpus in enumerate(random_corpora):
        rng, asked = random.Random(seed), Signatures(corpus, column)
        bodies = [body(corpus, column, block) for block in range(corpus.num_blocks)]
        for _ in range(150):
            wanted = wanted_from(rng, bodies, ITEM[column])
            blocks = np.array([rng.randrange(corpus.num_blocks) for _ in range(rng.randint(0, 12))], np.int32)
            places = asked.may_have(blocks, wanted).tolist()
            right = [i for i, block in enumerate(blocks.tolist()) if has(bodies[block], wanted, ITEM[column])]
            assert places == sorted(set(places)) and set(right) <= set(places) <= set(range(len(blocks))), wanted
            again = asked.may_have(blocks, wanted).tolist()  # now all signatures are there
            assert set(right) <= set(again) <= set(places)
            assert again == asked.may_have(blocks, wanted).tolist()
            found, lost = found + len(right), lost + len(blocks) - len(again)
    assert found > 500 and lost > 1000


@pytest.fixture(scope="module")
def english(tmp_path_factory, pieces_tokenizer):
    """The mini-corpus, four articles in a block: about 1,400 letters, as 288 wordpieces of a real vocabulary have."""
    texts = [json.loads(line)["text"] for line in assets.fetch(assets.MINI_CORPUS).read_text().splitlines()]
    return corpus_writer.build(
        [Record(str(i), "", " ".join(texts[i : i + 4])) for i in range(0, len(texts), 4)],
        tmp_path_factory.mktemp("english") / "corpus",
        tokenizer=pieces_tokenizer,
        tag=lambda sentences, title: [[] for _ in sentences],
        block_len_tokens=3000,
        description={"source": "mini", "fingerprint": "f", "tagger": "none"},
    )


def test_few_blocks_are_left_that_lack_it(english):
    asked, blocks = Signatures(english, "text"), np.arange(english.num_blocks)
    texts = [english.block(block).text for block in blocks]
    rng, right, left = random.Random(0), 0, 0
    assert len(asked.may_have(blocks, b"first")) == len(blocks)  # a block that is met once has none
    for _ in range(200):
        wanted = rng.choice(re.findall(r"\b\w{4,} \w{4,}\b", rng.choice(texts)))  # as long as most answers
        right += sum(wanted in text for text in texts)
        left += len(asked.may_have(blocks, wanted.encode()))
    assert right <= left < right + 0.06 * 200 * len(blocks)


def test_threads_that_ask_at_once_get_the_same(english):
    def places(asked) -> list[list[int]]:
        drawn = np.random.default_rng(0).permutation(english.num_blocks)
        wanted = ["the capital", "born", "of the", "19"]
        with ThreadPoolExecutor(4) as threads:
            found = threads.map(lambda i: asked.may_have(np.roll(drawn, 7 * i), wanted[i % 4].encode()), range(16))
            return [part.tolist() for part in found]

    made = Signatures(english, "text")
    places(made)
    expected = places(made)
    assert 0 < sum(map(len, expected)) < 16 * english.num_blocks
    for _ in range(5):
        asked = Signatures(english, "text")
        early = places(asked)  # of threads that met a block first, and threads that met it again
        assert all(set(few) <= set(many) for few, many in zip(expected, early, strict=True))
        assert places(asked) == expected
