"""A corpus of `realm corpus` as the corpus of a run."""

import dataclasses
import os

import numpy as np
import pytest

from realm_jax.config import ConfigError
from realm_jax.data import built
from realm_jax.data.build import plan, shards, source
from realm_jax.data.corpus import Corpus
from realm_jax.data.pipeline import MaskedSentences
from realm_jax.data.prepare import open_prepared, prepare
from realm_jax.workdir import Workdir
from tests import other_corpus


@pytest.fixture(scope="module")
def made(tiny_run, corpus_file, tmp_path_factory):
    """The tiny run's articles, built in several shards with its vocabulary."""
    out = tmp_path_factory.mktemp("built") / "out"
    job = shards.Job(source.find(str(corpus_file)), str(out), tiny_run.tokenizer_file.read_text(), 48, "rules")
    planned = plan.make_or_read(job, 8000)
    for numbered in enumerate(planned.parts):
        shards.build_shard(numbered, job)
    shards.finish(job, planned.identity, planned.fingerprint, len(planned.parts), 1.0)
    assert len(planned.parts) > 2
    return out


def with_corpus(config, **fields):
    return dataclasses.replace(config, corpus=dataclasses.replace(config.corpus, **fields))


def test_it_holds_what_the_run_itself_would_build(made, tiny_run):
    ours, theirs = Corpus.open(made), open_prepared(tiny_run).knowledge
    assert ours.num_blocks == theirs.num_blocks and len(ours.segments) > len(theirs.segments)
    everything = np.arange(ours.num_blocks)
    assert (ours.block_hashes(everything) == theirs.block_hashes(everything)).all()
    assert (ours.embedder_tokens(everything, 48).ids == theirs.embedder_tokens(everything, 48).ids).all()
    spans = [[tuple(s)[1:6] for s in corpus.spans(i)] for corpus in (ours, theirs) for i in everything]
    assert spans[: len(everything)] == spans[len(everything) :]


def test_a_run_links_it_and_masks_its_sentences(made, tiny_config, tmp_path):
    workdir = Workdir.create(tmp_path / "run", with_corpus(tiny_config, knowledge=str(made)))
    data = prepare(workdir)
    assert data.knowledge.num_blocks == Corpus.open(made).num_blocks
    segment = "segment-00001/tokens.bin"
    assert os.path.samefile(made / segment, workdir.knowledge_folder / segment)
    assert not os.path.samefile(made / "manifest.json", workdir.knowledge_folder / "manifest.json")
    assert len(MaskedSentences(data.text, data.special, tiny_config.pretrain, 0.2)) > 50
    assert prepare(workdir).knowledge.hash == data.knowledge.hash  # again: nothing changes


def test_both_corpora_of_a_run_can_be_built_ones(made, tiny_config, tmp_path, corpus_file):
    config = with_corpus(tiny_config, knowledge=str(made), pretrain_text=str(corpus_file))
    data = prepare(Workdir.create(tmp_path / "run", config))
    assert data.text.num_blocks == data.knowledge.num_blocks and data.text.folder != data.knowledge.folder


@pytest.mark.parametrize(
    ("fields", "model", "says"),
    [
        ({"block_len_tokens": 64}, {}, "pass --corpus.block_len_tokens=48"),
        ({}, {"vocab_size": 650}, "pass --model.vocab_size=700"),
    ],
)
def test_what_does_not_fit_is_one_clear_error(fields, model, says, made, tiny_config, tmp_path):
    config = with_corpus(tiny_config, knowledge=str(made), **fields)
    config = dataclasses.replace(config, model=dataclasses.replace(config.model, **model))
    with pytest.raises(ConfigError, match=says):
        prepare(Workdir.create(tmp_path / "run", config))


def test_another_vocabulary_is_refused(made, tiny_config, tmp_path, corpus_file):
    text = tmp_path / "other.jsonl"
    text.write_text(corpus_file.read_text().replace("the", "qqq"))
    workdir = Workdir.create(tmp_path / "run", with_corpus(tiny_config, knowledge=str(text), pretrain_text=str(made)))
    with pytest.raises(ConfigError, match="was built with another vocabulary"):
        prepare(workdir)


def test_another_corpus_under_the_same_name_is_noticed(made, tiny_config, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(made, copy)
    workdir = Workdir.create(tmp_path / "run", with_corpus(tiny_config, knowledge=str(copy)))
    prepare(workdir)
    other_corpus.change(copy)
    with pytest.raises(ConfigError, match="is not a copy of"):
        prepare(workdir)


def test_an_unfinished_one_names_the_command(tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "plan.json").write_text("{}")
    with pytest.raises(ConfigError, match="not finished: run its realm corpus command again"):
        built.is_built(str(tmp_path))
