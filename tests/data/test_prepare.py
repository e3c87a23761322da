"""Preparing a run: one or two corpora, made once, and never mixed up."""

import dataclasses
import json

import pytest

from realm_jax.config import ConfigError
from realm_jax.data import corpus
from realm_jax.data.prepare import open_prepared, prepare
from realm_jax.workdir import Workdir


def records(file, articles):
    file.write_text("".join(json.dumps({"id": i, "title": t, "text": x}) + "\n" for i, t, x in articles))
    return str(file)


def changed(config, **corpus_fields):
    return dataclasses.replace(config, corpus=dataclasses.replace(config.corpus, **corpus_fields))


def test_one_corpus_serves_as_both(tiny_run):
    data = open_prepared(tiny_run)
    assert data.text is data.knowledge
    assert data.tokenizer.get_vocab_size() == tiny_run.config.model.vocab_size
    assert data.special.mask == data.tokenizer.token_to_id("[MASK]")


def test_two_corpora_share_the_vocabulary_of_the_knowledge_corpus(tiny_config, tmp_path):
    text = records(
        tmp_path / "x.jsonl", [("1", "News", "Paris is large. The Seine flows there."), ("2", "B", "C d e.")]
    )
    workdir = Workdir.create(tmp_path / "run", changed(tiny_config, pretrain_text=text))
    data = prepare(workdir)
    assert data.text.num_blocks == 2 and data.knowledge.num_blocks > 100
    assert data.text.block(0).title == "News"
    hashes = {c.manifest["tokenizer_sha256"] for c in (data.text, data.knowledge)}
    assert len(hashes) == 1
    assert workdir.text_folder != workdir.knowledge_folder


def test_equal_names_mean_one_corpus(tiny_config, tmp_path):
    same = changed(tiny_config, pretrain_text=tiny_config.corpus.knowledge)
    workdir = Workdir.create(tmp_path / "run", same)
    assert workdir.text_folder == workdir.knowledge_folder


def test_a_run_goes_on_without_its_source_and_from_any_folder(tiny_config, tmp_path, monkeypatch, capsys):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    articles = [(str(i), f"Town {i}", f"Town {i} was built in 19{i}. It is large.") for i in range(10, 30)]
    records(tmp_path / "a" / "docs.jsonl", articles)
    monkeypatch.chdir(tmp_path / "a")
    workdir = Workdir.create(tmp_path / "run", changed(tiny_config, knowledge="docs.jsonl", pretrain_text="docs.jsonl"))
    before = prepare(workdir).knowledge.hash
    monkeypatch.chdir(tmp_path / "b")
    assert prepare(Workdir.open(tmp_path / "run")).knowledge.hash == before
    (tmp_path / "run").rename(tmp_path / "moved")
    (tmp_path / "a" / "docs.jsonl").rename(tmp_path / "a" / "other.jsonl")
    capsys.readouterr()
    assert prepare(Workdir.open(tmp_path / "moved")).knowledge.hash == before
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith(
        f"corpus: {tmp_path}/a/docs.jsonl is not there any more: going on with {tmp_path}/moved/corpus"
    )
    records(tmp_path / "a" / "docs.jsonl", articles[:5])
    with pytest.raises(ConfigError, match="when it held something else"):
        prepare(Workdir.open(tmp_path / "moved"))


def test_a_second_call_makes_nothing_again(new_run, monkeypatch):
    workdir = new_run()
    monkeypatch.setattr(corpus, "build", None)  # to call it would raise
    assert prepare(workdir).knowledge.num_blocks == open_prepared(workdir).knowledge.num_blocks


def test_a_kill_before_the_vocabulary_was_written_is_made_good(new_run, monkeypatch):
    workdir = new_run()
    before = workdir.tokenizer_file.read_text()
    workdir.tokenizer_file.unlink()
    with pytest.raises(ConfigError, match="has no corpus yet: run realm run"):
        open_prepared(workdir)
    monkeypatch.setattr(corpus, "build", None)
    prepare(workdir)
    assert workdir.tokenizer_file.read_text() == before


def test_changed_source_text_is_an_error(tiny_config, tmp_path):
    file = tmp_path / "z.jsonl"
    source = records(file, [("1", "A", "Paris is a city. It is old.")])
    workdir = Workdir.create(tmp_path / "run", changed(tiny_config, knowledge=source))
    prepare(workdir)
    records(file, [("1", "A", "Paris is a town. It is old.")])
    with pytest.raises(ConfigError, match="when it held something else.* another --workdir or delete this folder"):
        prepare(workdir)


def test_vocabulary_of_another_size_is_an_error_before_anything_is_built(new_run):
    workdir = new_run(model={"vocab_size": 800})
    with pytest.raises(ConfigError, match="700 wordpieces, the config's model 800: pass --model.vocab_size=700"):
        prepare(workdir)
