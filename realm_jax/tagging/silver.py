"""Silver labels: a corpus labelled by another tagger, for those who have no CoNLL-2003.

A classifier trained on them learns to imitate that tagger on the text that it will be used on; its scores say how well
it imitates, not how right it is. A hash of an article's id decides whether it is for training, development or test.
"""

import heapq
import os
import pathlib
import re
import shutil
from collections.abc import Callable, Iterator

from etils import epath

from realm_jax.checksums import check_files, describe_files
from realm_jax.config import ConfigError
from realm_jax.data.blocks import hash64
from realm_jax.data.sentences import split_sentences
from realm_jax.data.sources.sources import Source
from realm_jax.records import Record, Span
from realm_jax.tagging import conll
from realm_jax.tagging.bio import bio
from realm_jax.tagging.conll import LabelledSentence, Split
from realm_jax.workdir import read_json, write_json

TEST_SHARE, DEV_SHARE = 0.15, 0.10
BATCH_SENTENCES = 256
CHECKSUMS = "checksums.json"
WORD = re.compile(r"\w+|[^\w\s]")
ONTONOTES = {
    "PER": ("PERSON",),
    "ORG": ("ORG",),
    "LOC": ("GPE", "LOC", "FAC"),
    "MISC": ("NORP", "EVENT", "WORK_OF_ART", "LAW", "LANGUAGE", "PRODUCT"),
}
"""CoNLL-2003's types -> those of OntoNotes, which spaCy's English pipelines give."""
TYPE_OF = {theirs: ours for ours, all_of_them in ONTONOTES.items() for theirs in all_of_them}


def split_of(record: Record) -> Split:
    """The split that an article belongs to, a function of its id alone."""
    share = hash64(f"tagger {record.id}") / 2.0**64
    return "test" if share < TEST_SHARE else "dev" if share < TEST_SHARE + DEV_SHARE else "train"


def write_folder(
    source: Source,
    folder: str | os.PathLike,
    tag: Callable[[list[str], str], list[list[Span]]],
    wanted: dict[Split, int],
    progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> None:
    """Labels a sample of a source's sentences into files that `conll.read_folder` reads; the folder appears complete.

    Args:
        tag: its spans of the types in `ONTONOTES` are kept; all others, such as dates, are left out.
        wanted: number of sentences of each split.

    Raises:
        ConfigError: the source has fewer sentences.
    """
    chosen = choose(source, wanted)
    for split, of_split in chosen.items():
        if len(of_split) < wanted[split]:
            flag = "--sentences" if split == "train" else f"--{split}_sentences"
            raise ConfigError(
                f"{source.description['source']}: has {len(of_split)} sentences for {split}, not {wanted[split]}: "
                f"pass a smaller {flag} or another --corpus"
            )
    folder = pathlib.Path(folder)
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    done, total = 0, sum(wanted.values())
    for split, of_split in chosen.items():
        labelled: list[LabelledSentence] = []
        for first in range(0, len(of_split), BATCH_SENTENCES):
            labelled += label(of_split[first : first + BATCH_SENTENCES], "", tag)
            progress(done + len(labelled), total)
        done += len(labelled)
        conll.write_file(partial / conll.FILES[split][0], [labelled])
    write_json(epath.Path(partial) / CHECKSUMS, describe_files(partial))
    os.replace(partial, folder)


def read_folder(folder: os.PathLike, split: Split) -> list[LabelledSentence]:
    """Sentences of a split that `write_folder` wrote. Raises Damaged if a file is not what it wrote."""
    checksums = epath.Path(folder) / CHECKSUMS
    if checksums.exists():  # earlier releases made none
        check_files(folder, read_json(checksums), f"delete {folder}, and the sentences are labelled again")
    return conll.read_folder(folder, split)


def choose(source: Source, wanted: dict[Split, int]) -> dict[Split, list[str]]:
    """Sentences of each split from all over the source, in its order: those with the lowest hashes."""
    heaps: dict[Split, list[tuple[int, int, str]]] = {split: [] for split in wanted}
    order = 0
    for record in source.records():
        split = split_of(record)
        for i, (start, limit) in enumerate(split_sentences(record.text)):
            sentence, order = record.text[start:limit], order + 1
            if wanted[split] and WORD.search(sentence):
                row = (-hash64(f"{i} {record.id}"), order, sentence)
                if len(heaps[split]) < wanted[split]:
                    heapq.heappush(heaps[split], row)
                else:
                    heapq.heappushpop(heaps[split], row)
    return {
        split: [sentence for _, _, sentence in sorted(rows, key=lambda row: row[1])] for split, rows in heaps.items()
    }


def label(
    sentences: list[str], title: str, tag: Callable[[list[str], str], list[list[Span]]]
) -> Iterator[LabelledSentence]:
    """The sentences of one document as words with labels; sentences without words are left out."""
    for sentence, spans in zip(sentences, tag(sentences, title), strict=True):
        words = [(match.start(), match.end()) for match in WORD.finditer(sentence)]
        entities = []
        for span in spans:
            inside = [i for i, (start, limit) in enumerate(words) if start < span.limit and span.start < limit]
            if inside and span.type in TYPE_OF:
                entities.append((inside[0], inside[-1] + 1, TYPE_OF[span.type]))
        if words:
            texts = tuple(sentence[start:limit] for start, limit in words)
            yield LabelledSentence(texts, tuple(bio(len(words), entities)))
