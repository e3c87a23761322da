"""Sentences whose words carry entity labels: files in the format of CoNLL-2003, and the set itself.

A line holds a word, any other columns, and the word's label, separated by spaces or tabs. A blank line ends a sentence;
`-DOCSTART-` lines begin documents and are skipped. Labels in IOB1 (the original `eng.train`) and IOB2 are both accepted
and become IOB2. The set is not free: it is read from a folder of its files, or through tensorflow-datasets.
"""

import hashlib
import os
import pathlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from realm_jax import paths
from realm_jax.config import ConfigError
from realm_jax.data import published, published_sets
from realm_jax.tagging.bio import bio, chunks, label_set, split

Split = Literal["train", "dev", "test"]

FILES: dict[str, tuple[str, ...]] = {
    "train": ("train.txt", "eng.train"),
    "dev": ("valid.txt", "dev.txt", "eng.testa"),
    "test": ("test.txt", "eng.testb"),
}
"""Names under which the splits are published."""
DOCUMENT = "-DOCSTART-"
TYPES = ("PER", "ORG", "LOC", "MISC")
"""The types of CoNLL-2003, in the order in which tensorflow-datasets numbers their labels."""


@dataclass(frozen=True)
class LabelledSentence:
    """A sentence's words with one label each."""

    words: tuple[str, ...]
    labels: tuple[str, ...]
    """IOB2."""

    @property
    def text(self) -> str:
        """The words with single spaces between them."""
        return " ".join(self.words)

    @property
    def places(self) -> list[tuple[int, int]]:
        """Characters [start, limit) of each word in `text`."""
        starts, at = [], 0
        for word in self.words:
            starts.append(at)
            at += len(word) + 1
        return [(start, start + len(word)) for start, word in zip(starts, self.words, strict=True)]


def read_folder(folder: str | os.PathLike, split: Split) -> list[LabelledSentence]:
    """Sentences of `train.txt`, `valid.txt` or `test.txt` (or `eng.train`, `eng.testa`, `eng.testb`) in a folder.

    Raises:
        ConfigError: there is no such file, or a bad line, which is named.
    """
    folder = pathlib.Path(paths.expand(os.fspath(folder)))
    found = [folder / name for name in FILES[split] if (folder / name).is_file()]
    if not found:
        raise ConfigError(
            f"{folder}: has no {' or '.join(FILES[split])}: pass --data=FOLDER with CoNLL-2003's files, "
            "--data=conll2003 or --data=silver"
        )
    return read_file(found[0])


def folder_sha256(folder: pathlib.Path) -> str:
    """SHA-256 of the contents of a folder's files of sentences, in hexadecimal."""
    files = [folder / name for names in FILES.values() for name in names if (folder / name).is_file()]
    return hashlib.sha256("\n".join(hashlib.sha256(f.read_bytes()).hexdigest() for f in files).encode()).hexdigest()


def read_file(path: pathlib.Path) -> list[LabelledSentence]:
    """Sentences of one file. Raises ConfigError naming file and line."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as UTF-8 ({error}): convert it, or pass another --data") from error
    sentences: list[LabelledSentence] = []
    words, labels = [], []
    for number, line in enumerate([*lines, ""], 1):
        columns = line.split()
        if columns and columns[0] != DOCUMENT:
            words.append(columns[0])
            labels.append(_label(columns, f"{path}:{number}"))
        elif words:
            sentences.append(_sentence(words, labels))
            words, labels = [], []
    if not sentences:
        raise ConfigError(f"{path}: has no sentence: give it lines of a word and its label, with blank lines between")
    return sentences


def write_file(path: pathlib.Path, documents: Iterable[list[LabelledSentence]]) -> None:
    """Writes what `read_file` reads; each document begins with a `-DOCSTART-` line."""
    with open(path, "w", encoding="utf-8") as file:
        for document in documents:
            file.write(f"{DOCUMENT} O\n\n")
            for sentence in document:
                pairs = zip(sentence.words, sentence.labels, strict=True)
                file.write("".join(f"{word} {label}\n" for word, label in pairs) + "\n")


def read_conll2003(split: Split, *, data_dir: str = "") -> list[LabelledSentence]:
    """The published set through tensorflow-datasets. Raises ConfigError as `published.read` does."""
    or_else = "or unpack it and pass --data=FOLDER with its train.txt, valid.txt and test.txt"
    names = label_set(TYPES)
    return [
        _sentence([word.decode() for word in example["tokens"]], [names[i] for i in example["ner"]])
        for example in published.read(published_sets.CONLL_2003, split, data_dir=data_dir, or_else=or_else)
        if len(example["tokens"])
    ]


def types_of(sentences: Iterable[LabelledSentence]) -> tuple[str, ...]:
    """Entity types that occur: CoNLL's in their usual order, then all others by name."""
    found = {label.partition("-")[2] for sentence in sentences for label in sentence.labels} - {""}
    return (*(kind for kind in TYPES if kind in found), *sorted(found - set(TYPES)))


def _label(columns: list[str], where: str) -> str:
    if len(columns) < 2:
        raise ConfigError(f"{where}: has the word {columns[0]!r} without a label: write `WORD LABEL`")
    try:
        split(columns[-1])
    except ValueError as error:
        raise ConfigError(f"{where}: {error}: correct the line's last column") from error
    return columns[-1]


def _sentence(words: list[str], labels: list[str]) -> LabelledSentence:
    return LabelledSentence(tuple(words), tuple(bio(len(words), chunks(labels))))
