"""Finds a question set's gold passages among the records of a corpus: by ids, or by texts if the set has no ids."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from realm_jax.data.blocks import hash64
from realm_jax.data.corpus import Corpus
from realm_jax.records import Question


@dataclass(frozen=True)
class Gold:
    """The gold passages of a set that the corpus has."""

    records: list[list[int]]
    """Ordinals of each question's gold passages among the live records, each once."""
    named: int
    """How many different passages the set names."""
    missing: int
    """How many of these the corpus lacks."""

    def __str__(self) -> str:
        return f"{self.missing:,} of the set's {self.named:,} gold passages are not in the corpus"


def gold_records(corpus: Corpus, questions: Sequence[Question]) -> Gold:
    """Looks the gold passages of questions up in a corpus."""
    ids = {name for question in questions for name in question.gold_passages}
    texts = {_key(text) for question in questions for text in question.gold_texts}
    by_id = _by_id(corpus, ids) if ids else {}
    by_text = _by_text(corpus, texts) if texts else {}
    records = []
    for question in questions:
        found = [by_id[name] for name in question.gold_passages if name in by_id]
        found += itertools.chain.from_iterable(by_text.get(_key(text), ()) for text in question.gold_texts)
        records.append(list(dict.fromkeys(found)))
    return Gold(records, len(ids) + len(texts), len(ids - by_id.keys()) + len(texts - by_text.keys()))


def _by_id(corpus: Corpus, ids: set[str]) -> dict[str, int]:
    of_block = corpus.record_of_block
    return {name: int(of_block[blocks.start]) for name, blocks in corpus.blocks_of(ids).items()}


def _by_text(corpus: Corpus, keys: set[int]) -> dict[int, list[int]]:
    """The records that consist of such a text, or have a block that does."""
    of_block, live = corpus.record_of_block, np.flatnonzero(corpus.live).tolist()
    found: dict[int, list[int]] = {}
    for record, blocks in itertools.groupby(live, key=lambda block: int(of_block[block])):
        texts = [corpus.block(block).text for block in blocks]
        for key in keys & set(_keys(texts)):
            found.setdefault(key, []).append(record)
    return found


def _keys(texts: list[str]) -> Iterable[int]:
    """Keys of a record's blocks, and of the whole record."""
    return map(_key, texts if len(texts) == 1 else [*texts, "".join(texts)])


def _key(text: str) -> int:
    """The same for texts that differ in white space alone."""
    return hash64("".join(text.split()))
