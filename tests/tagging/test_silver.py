"""Silver labels: spans of a tagger become words with labels, and articles stay in one split."""

import collections

import pytest

from realm_jax.checksums import Damaged
from realm_jax.config import ConfigError
from realm_jax.data.sources.sources import Source
from realm_jax.records import Record, Span
from realm_jax.tagging import conll, silver


def tag(sentences, title):
    """Every `Paris` is a GPE, `NATO` an ORG, 1999 a date."""
    found = {"Paris": "GPE", "NATO": "ORG", "1999": "DATE", "New York": "GPE"}
    return [[Span(s.index(w), s.index(w) + len(w), kind) for w, kind in found.items() if w in s] for s in sentences]


def source(count):
    records = [Record(str(i), "T", f"NATO met in Paris, in 1999. It left New York-{i}.") for i in range(count)]
    return Source({"source": "test"}, "", count, lambda: iter(records))


def test_words_and_labels():
    (sentence,) = silver.label(["NATO's meeting in New York, 1999."], "", tag)
    assert sentence.words == ("NATO", "'", "s", "meeting", "in", "New", "York", ",", "1999", ".")
    assert sentence.labels == ("B-ORG", "O", "O", "O", "O", "B-LOC", "I-LOC", "O", "O", "O")


def test_every_type_of_ontonotes_but_numbers_and_dates_has_a_place():
    assert set(silver.TYPE_OF.values()) == set(conll.TYPES)
    numbers = {"CARDINAL", "ORDINAL", "PERCENT", "MONEY", "QUANTITY", "TIME", "DATE"}
    assert len(silver.TYPE_OF) == 18 - len(numbers) and not numbers & set(silver.TYPE_OF)


def test_folder_has_what_was_asked_for(tmp_path):
    wanted = {"train": 31, "dev": 6, "test": 8}
    silver.write_folder(source(200), tmp_path / "silver", tag, wanted)
    found = {split: conll.read_folder(tmp_path / "silver", split) for split in wanted}
    assert {split: len(sentences) for split, sentences in found.items()} == wanted
    numbers = {split: {s.words[-2] for s in sentences if "York" in s.words} for split, sentences in found.items()}
    assert not numbers["train"] & numbers["test"] and not numbers["train"] & numbers["dev"]
    order = [int(s.words[-2]) for s in found["train"] if "York" in s.words]
    assert order == sorted(order) and order[-1] > 120  # from the whole source, not its beginning
    assert not (tmp_path / "silver.partial").exists()


def test_sentences_that_were_damaged_are_refused(tmp_path):
    folder = tmp_path / "silver"
    silver.write_folder(source(200), folder, tag, {"train": 31, "dev": 6, "test": 8})
    whole = silver.read_folder(folder, "train")
    file = folder / "train.txt"
    file.write_text(file.read_text(encoding="utf-8").replace("B-ORG", "B-LOC", 1), encoding="utf-8")
    with pytest.raises(Damaged, match=f"{file} differs from its checksum: delete {folder}"):
        silver.read_folder(folder, "train")
    (folder / "checksums.json").unlink()  # as an earlier release left it
    assert len(silver.read_folder(folder, "train")) == len(whole)


def test_too_small_a_source(tmp_path):
    with pytest.raises(ConfigError, match="test: has [0-9]+ sentences for train, not 900: pass a smaller --sentences"):
        silver.write_folder(source(200), tmp_path / "silver", tag, {"train": 900, "dev": 1, "test": 1})
    assert list(tmp_path.iterdir()) == []


def test_shares_of_the_splits():
    splits = collections.Counter(silver.split_of(Record(f"article/{i}", "", "")) for i in range(4000))
    assert abs(splits["test"] / 4000 - silver.TEST_SHARE) < 0.02 and abs(splits["dev"] / 4000 - silver.DEV_SHARE) < 0.02
