"""Random corpora of several segments with letters of all kinds, and a vocabulary in which words have parts."""

import string

import numpy as np
import pytest

from realm_jax.data import corpus_writer
from realm_jax.data.corpus import Corpus
from realm_jax.data.run_tokenizer import SPECIALS, from_checkpoint
from realm_jax.records import Record

WORDS = (
    "art party Art PARTY Zoë zoe naïve ſtraße 日本 東京 🙂 🙂🙂 “Hi” don't U.S. 2,000 1984 über é a of the Łódź [SEP]"
)
BLOCK_LEN = 40


@pytest.fixture(scope="session")
def pieces_tokenizer(tmp_path_factory):
    """BERT's lower-cased tokenizer over letters and a few longer pieces; what it lacks is [UNK]."""
    letters = [*string.ascii_lowercase, *string.digits, *"日本🙂łß"]
    pieces = ["art", "party", "##rt", "the", "of", "zoe", "198", "##4", *".,'“”[]"]
    file = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    file.write_text("\n".join(dict.fromkeys([*SPECIALS, *pieces, *letters, *("##" + c for c in letters)])))
    return from_checkpoint(file)


def random_records(rng: np.random.Generator, count: int, prefix: str) -> list[Record]:
    """Articles of a few sentences; some sentences are longer than a block."""
    words, records = WORDS.split(), []
    for i in range(count):
        lengths = rng.integers(1, 9, rng.integers(1, 7)) * rng.choice([1, 1, 1, 4])
        sentences = [" ".join(rng.choice(words, length)) + "." for length in lengths]
        records.append(Record(f"{prefix}{i}", f"Art {i}", " ".join(s[:1].upper() + s[1:] for s in sentences)))
    return records


def random_corpus(folder, tokenizer, seed: int, segments: int) -> Corpus:
    rng = np.random.default_rng(seed)
    arguments = {"tokenizer": tokenizer, "tag": lambda sentences, title: [[] for _ in sentences]}
    description = {"source": "random", "fingerprint": str(seed), "tagger": "none"}
    records = random_records(rng, 8, "0-")
    found = corpus_writer.build(records, folder, block_len_tokens=BLOCK_LEN, description=description, **arguments)
    for segment in range(1, segments):
        found = corpus_writer.append(random_records(rng, 5, f"{segment}-"), folder, **arguments)
    return found


@pytest.fixture(scope="session")
def random_corpora(tmp_path_factory, pieces_tokenizer):
    """Corpora of one to three segments."""
    folder = tmp_path_factory.mktemp("random")
    return [random_corpus(folder / str(seed), pieces_tokenizer, seed, 1 + seed % 3) for seed in range(4)]


@pytest.fixture
def new_corpus(tmp_path, pieces_tokenizer):
    """Makes such a corpus for a test that changes it."""
    return lambda seed, segments: random_corpus(tmp_path / "corpus", pieces_tokenizer, seed, segments)
