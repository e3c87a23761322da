"""A build knows its source by content: other content is refused, the same content elsewhere or at another time goes on.

And passages that came cut stay cut.
"""

import json
import os
import pathlib
import shutil
from dataclasses import replace

import pytest

from realm_jax.commands import corpus as build_main
from realm_jax.config import ConfigError
from realm_jax.data import corpus_writer, run_tokenizer, salient
from realm_jax.data.build import plan, shards, source
from realm_jax.data.corpus import Corpus
from realm_jax.data.prepare import prepare
from realm_jax.records import Record
from realm_jax.workdir import Workdir
from tests.data import corpus_files
from tests.data.build.conftest import articles, contents
from tests.data.corpus_files import RECORDS, table

PART = 300


def job_of(file, out, vocabulary, **options):
    found = source.find(str(file), **options)
    return shards.Job(found, str(out), vocabulary.read_text(), 48, "rules", found.as_given)


def make(job, only=None):
    """Makes the shards (`only` some) as the command does; returns the plan."""
    planned = plan.make_or_read(job, PART)
    for numbered in list(enumerate(planned.parts))[:only]:
        shards.build_shard(numbered, job)
    if only is None:
        assert not shards.errors(job, len(planned.parts))
        shards.finish(job, planned.identity, planned.fingerprint, len(planned.parts), 1.0)
    return planned


@pytest.fixture
def file(tmp_path):
    """A file whose parts are spilled."""
    return corpus_files.write(tmp_path / "here", "dpr packed")


def test_why_nothing_is_kept_is_said(vocabulary, tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps({"id": "1", "title": "A " * 99, "text": "Some text."}))
    with pytest.raises(ConfigError, match="holds no text .*'titles_too_long': 1"):
        make(job_of(tmp_path / "a.jsonl", tmp_path / "out", vocabulary))


def other_content(file):
    """The same name, size and time, one letter of the text another."""
    before = file.stat()
    file.write_bytes(file.read_bytes()[:-9] + b"x" + file.read_bytes()[-8:])
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert file.stat().st_size == before.st_size and file.stat().st_mtime_ns == before.st_mtime_ns


def test_a_finished_corpus_is_known_by_content(file, vocabulary, tmp_path):
    job = job_of(file, tmp_path / "out", vocabulary)
    make(job)
    assert plan.check_finished(job, PART)["build"]["plan"]["format"] == "dpr"
    moved = pathlib.Path(shutil.copytree(file.parent, tmp_path / "there")) / file.name
    os.utime(moved, (1, 1))
    assert plan.check_finished(job_of(moved, tmp_path / "out", vocabulary), PART)
    other_content(file)
    with pytest.raises(ConfigError, match="built from .* when it held something else: pass another --out or delete it"):
        plan.check_finished(job, PART)


def test_an_unfinished_one_goes_on_from_another_folder(file, vocabulary, tmp_path):
    whole = job_of(file, tmp_path / "whole", vocabulary)
    assert len(make(whole).parts) > 3
    plain = corpus_files.write(tmp_path / "here", "dpr")
    for begun_from, name in ((file, "packed"), (plain, "plain")):
        begun = job_of(begun_from, tmp_path / name, vocabulary)
        make(begun, only=2)
        there = tmp_path / f"there-{name}"
        there.mkdir()
        shutil.move(begun_from, there)
        shutil.move(tmp_path / name, there / "out")
        moved = job_of(there / begun_from.name, there / "out", vocabulary)
        make(moved)
        assert contents(there / "out") == contents(tmp_path / "whole")


def test_other_content_under_an_unfinished_one_is_refused(file, vocabulary, tmp_path):
    job = job_of(file, tmp_path / "out", vocabulary)
    make(job, only=1)
    other_content(file)
    with pytest.raises(ConfigError, match="when it held something else"):
        plan.make_or_read(job, PART)


def test_a_large_source_is_hashed_where_name_size_or_time_differ(file, vocabulary, tmp_path, monkeypatch):
    job = job_of(file, tmp_path / "out", vocabulary)
    make(job)
    monkeypatch.setattr(plan, "ALWAYS_HASHED", 10)
    with monkeypatch.context() as patch:
        patch.setattr(source.Source, "fingerprint", None)  # to call it would raise
        assert plan.check_finished(job, PART)
    os.utime(file, ns=(1, file.stat().st_mtime_ns + 1))
    assert plan.check_finished(job, PART)
    other_content(file)
    os.utime(file, ns=(1, 5))
    with pytest.raises(ConfigError, match="when it held something else"):
        plan.check_finished(job, PART)


def test_other_settings_are_refused_by_name(file, vocabulary, tmp_path):
    job = job_of(file, tmp_path / "out", vocabulary)
    make(job)
    for other, key in (
        (replace(job, as_given=False), "blocks 'as_given', now it is 'cut'"),
        (job_of(file, job.out, vocabulary, columns="id=id,text=text"), "format 'dpr', now it is 'columns'"),
    ):
        with pytest.raises(ConfigError, match=f"was built with {key}"):
            plan.check_finished(other, PART)


def test_passages_stay_cut_and_those_that_exceed_a_block_are_counted(vocabulary, tiny_config, tmp_path, capsys):
    long = ("x", "It is long. " * 40 + "End.", "Long")
    empty = ("y", " \u200b ", "Empty")
    rows = [("id", "text", "title"), *((i, text, title) for i, title, text in RECORDS), long, empty]
    file = tmp_path / "psgs_w100.tsv"
    file.write_bytes(table(rows, "\t"))
    flags = [f"--source={file}", f"--tokenizer={vocabulary}", "--block_len_tokens=48", "--workers=1"]
    build_main.main([*flags, f"--out={tmp_path / 'out'}"])
    printed = capsys.readouterr().out
    first = f"source: {file.name} is dpr (id, text, title), a table; each record is a block as it came"
    assert printed.splitlines()[0] == first
    assert "blocks as they came: 1 of 13 (7.7%) exceed 48 wordpieces" in printed and "empty text: 1" in printed
    built = articles(tmp_path / "out")
    assert [i for i, _, _ in built] == [*(i for i, _, _ in RECORDS), "x"]
    assert [text.split() for _, _, text in built[:-1]] == [text.split() for _, _, text in RECORDS]
    corpus = dict(knowledge=str(file), block_len_tokens=48)
    config = replace(tiny_config, corpus=replace(tiny_config.corpus, **corpus))
    workdir = Workdir.create(tmp_path / "run", config)
    shutil.copy(vocabulary, workdir.tokenizer_file)
    of_run = prepare(workdir).knowledge
    assert [of_run.block(i).text for i in range(of_run.num_blocks)] == [text for _, _, text in built]
    assert of_run.manifest["blocks"] == "as_given"
    printed = capsys.readouterr().out
    assert "blocks as they came: 1 of 13 (7.7%) exceed 48 wordpieces" in printed and "empty records 1" in printed
    changed = Workdir(workdir.path, replace(config, corpus=replace(config.corpus, blocks="cut")))
    with pytest.raises(ConfigError, match="was built with blocks 'as_given', now it is 'cut'"):
        prepare(changed)
    build_main.main([*flags, f"--out={tmp_path / 'cut'}", "--blocks=cut"])
    assert "each record is cut into blocks" in capsys.readouterr().out
    assert Corpus.open(tmp_path / "cut").num_blocks > 13


def test_records_that_are_added_to_passages_are_passages(vocabulary, tmp_path):
    tokenizer, tag = run_tokenizer.load(vocabulary), salient.make_tagger("rules")
    description = {"source": "x", "fingerprint": "f", "tagger": "rules", "blocks": "as_given"}
    first, more = Record("1", "A", "It is. " * 30), Record("2", "B", "It was. " * 30)
    options = {"tokenizer": tokenizer, "tag": tag}
    corpus_writer.build([first], tmp_path / "c", block_len_tokens=32, description=description, **options)
    corpus = corpus_writer.append([more, Record("3", "C", " ")], tmp_path / "c", **options)
    assert corpus.num_blocks == 2 and corpus.manifest["segments"][1]["counts"]["empty_records"] == 1
    older = json.loads((tmp_path / "c" / "manifest.json").read_text())
    del older["blocks"]  # as corpora before this setting are
    (tmp_path / "c" / "manifest.json").write_text(json.dumps(older))
    cut = description | {"blocks": "cut"}
    Corpus.open(tmp_path / "c").check_against(cut, tokenizer=tokenizer, block_len_tokens=32)
    with pytest.raises(ConfigError, match="blocks 'cut', now it is 'as_given'"):
        Corpus.open(tmp_path / "c").check_against(description, tokenizer=tokenizer, block_len_tokens=32)
