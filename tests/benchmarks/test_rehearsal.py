"""The rehearsal: its corpus is what the tokenizer would have made of its texts, and in short it runs to its end."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from realm_jax.data.blocks import hash64
from realm_jax.data.built import is_built
from realm_jax.data.corpus import Corpus
from tests.benchmarks.scripts import BENCHMARKS, load


def test_the_drawn_corpus_is_a_corpus(tmp_path, monkeypatch):
    drawn = load("drawn_corpus")
    monkeypatch.setitem(drawn["write"].__globals__, "SEGMENT_BLOCKS", 20)
    monkeypatch.setitem(drawn["write"].__globals__, "CHUNK_BLOCKS", 6)
    drawn["write"](tmp_path / "corpus", 44)
    corpus, tokenizer = Corpus.open(tmp_path / "corpus"), drawn["tokenizer"]()
    assert is_built(str(tmp_path / "corpus")) and len(corpus.segments) == 3 and corpus.num_blocks == 44
    assert len({int(block["hash"]) for segment in corpus.segments for block in segment.blocks}) == 44
    assert len(set(corpus.record_ids())) == 22

    def cut(text):
        return tokenizer.encode(text, add_special_tokens=False).ids

    for index in (0, 7, 21, 43):
        block = corpus.block(index)
        body, text = corpus.body(index).tolist(), block.text
        assert cut(text) == body and cut(block.title) == corpus.title(index).tolist() and len(body) == 85
        for sentence in corpus.sentences(index):
            said = text[sentence["byte_start"] : sentence["byte_limit"]]
            assert said.endswith(".") and cut(said) == body[sentence["token_start"] : sentence["token_limit"]]
        spans = corpus.spans(index)
        assert len(spans) == 10
        for span in spans:
            said, sentence = text[span["byte_start"] : span["byte_limit"]], corpus.sentences(index)[span["sentence"]]
            assert cut(said) == body[span["token_start"] : span["token_limit"]] and span["text_hash"] == hash64(said)
            assert sentence["token_start"] <= span["token_start"] < span["token_limit"] <= sentence["token_limit"]
    assert corpus.embedder_tokens(np.array([21]), 96).mask.sum() == corpus.lengths[21] == 89


@pytest.mark.slow
@pytest.mark.long
def test_in_short():
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "1"}
    short = ["--blocks=30000", "--sizes=2", "--steps=20", "--trainers=2", "--name="]
    command = [sys.executable, BENCHMARKS / "rehearsal.py", *short]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    values = json.loads(done.stdout[done.stdout.index('{\n "trainers"') :])
    last = values["rows"][-1]
    assert [row["blocks"] for row in values["rows"]] == [3000, 30000] and values["trainers"] == 2
    assert last["resumed from step"] > 0 and len(last["seconds of a build, two builders"]) >= 2
    assert "the other builder publishes" in done.stdout and "they go on to another checkpoint" in done.stdout
    assert load("rehearsal_table")["markdown"](values).count("\n") > 10
