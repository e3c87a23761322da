"""Every format of corpora gives the texts that were put into it, to a run and to a build, and a run retrieves them."""

import dataclasses
import re
import shutil
from collections import Counter

import pytest
from etils import epath

from realm_jax.data.build import source
from realm_jax.data.prepare import prepare
from realm_jax.data.sources import formats, sources
from realm_jax.eval import zero_shot
from realm_jax.records import Question
from realm_jax.workdir import Workdir
from tests.data import corpus_files
from tests.data.corpus_files import RECORDS

NAMES = list(corpus_files.files())
ONE_EACH = list({form: name for name, (form, _, _) in corpus_files.files().items()}.values())


def words(records):
    """(id, title, text with single spaces) in the order of the ids' numbers or names."""
    return sorted((r.id, r.title, " ".join(r.text.split())) for r in records)


def expected(name):
    ids = corpus_files.ids(name)
    return sorted((i, title, " ".join(text.split())) for i, (_, title, text) in zip(ids, RECORDS, strict=True))


def built(found, folder, part_bytes):
    """(records, counts) of a source in parts of some size, as a build reads it."""
    form, counts, records = found.open(), Counter(), []
    for part in form.plan(epath.Path(folder), part_bytes):
        records += list(form.records(part, counts))
    return records, counts


@pytest.mark.parametrize("name", NAMES)
def test_both_doors_give_the_texts(name, tmp_path):
    file = corpus_files.write(tmp_path, name)
    form = corpus_files.files()[name][0]
    of_run = sources.read(str(file))
    records = list(of_run.records())
    assert words(records) == expected(name) and of_run.num_records == len(RECORDS)
    assert of_run.says.startswith(f"{file.name} is {form} (") and of_run.as_given == (form in ("dpr", "atlas"))
    for part_bytes in (1, 300, 1 << 20):
        found = source.find(str(file))
        again, counts = built(found, tmp_path / f"spilled{part_bytes}", part_bytes)
        assert [(r.id, r.title, r.text) for r in again] == [(r.id, r.title, r.text) for r in records]
        assert counts.pop("records") == len(RECORDS) and set(counts) <= {"section headings"}
    assert found.format == form and found.as_given == of_run.as_given


def test_every_form_has_a_file():
    assert {form for form, _, _ in corpus_files.files().values()} == {form.name for form in formats.FORMS}
    assert len({form.name for form in formats.FORMS}) == len(formats.FORMS)


@pytest.fixture(scope="module")
def vocabulary(tiny_config, tmp_path_factory):
    """A run on these texts as plain records; the others take its vocabulary."""
    folder = tmp_path_factory.mktemp("formats")
    config = of_corpus(tiny_config, corpus_files.write(folder, "jsonl"))
    workdir = Workdir.create(folder / "run", config)
    prepare(workdir)
    return workdir.tokenizer_file


def of_corpus(config, file, **fields):
    """The tiny config with another corpus, and a small vocabulary."""
    corpus = dataclasses.replace(config.corpus, knowledge=str(file), block_len_tokens=96, **fields)
    model = dataclasses.replace(config.model, vocab_size=200, max_positions=160)
    return dataclasses.replace(config, corpus=corpus, model=model)


def run_on(config, folder, vocabulary):
    """A run whose corpus is prepared."""
    workdir = Workdir.create(folder, config)
    shutil.copy(vocabulary, workdir.tokenizer_file)
    prepare(workdir)
    return workdir


@pytest.mark.parametrize("name", ONE_EACH)
def test_a_run_finds_the_passages(name, tiny_config, vocabulary, tmp_path, capsys):
    file = corpus_files.write(tmp_path, name)
    workdir = run_on(of_corpus(tiny_config, file), tmp_path / "run", vocabulary)
    lines = capsys.readouterr().out.splitlines()
    form = corpus_files.files()[name][0]
    blocks = "is a block as it came" if form in ("dpr", "atlas") else "is cut into blocks"
    assert re.fullmatch(rf"corpus: {re.escape(file.name)} is {form} \(.*; 12 records; each record {blocks}", lines[0])
    asked = [
        Question(str(i), f"Which {word} house is it?", gold_passages=(gold,))
        for i, (word, gold) in enumerate(zip(corpus_files.WORDS, corpus_files.ids(name), strict=True))
    ]
    table = zero_shot.question_recall(workdir, asked).table
    assert table["BM25"]["recall@1"].mean == 1 and table["BM25"]["recall@1"].n == len(asked)
    assert 0 <= table["first weights"]["recall@5"].mean <= 1
