"""Batches have the arrays that their classes state (those of fine-tuning: tests/training/test_finetune.py)."""

import dataclasses

import numpy as np
import pytest

from realm_jax.data.assembly import with_candidates
from realm_jax.data.ict_examples import IctExamples
from realm_jax.data.pipeline import Examples, MaskedSentences
from realm_jax.data.prepare import open_prepared
from realm_jax.records import Process
from realm_jax.tagging.words import pad
from tests.batch_shapes import misshapen


@pytest.fixture(scope="module")
def data(tiny_run):
    return open_prepared(tiny_run)


def test_batches_of_ict(data):
    examples = IctExamples(data.text, data.special, 0.2, 24, 0.9)
    batch = Examples(len(examples), examples.example, 0, Process()).batch(0, 4)
    assert misshapen(batch) == []
    other = dataclasses.replace(batch, weight=batch.weight[:, None], query=batch.query.ids)
    assert misshapen(other) == ["IctBatch.query", "IctBatch.weight"]


def test_batches_of_pretraining(data, tiny_run):
    sentences = MaskedSentences(data.text, data.special, tiny_run.config.pretrain, 0.2)
    queries = Examples(len(sentences), sentences.example, 0, Process()).batch(0, 4)
    assert misshapen(queries) == []
    batch = with_candidates(queries, np.array([[0, 1], [2, -1]] * 2), data.knowledge, 2)
    assert misshapen(batch) == []
    short = dataclasses.replace(batch, mask_weights=batch.mask_weights[:3])
    assert misshapen(short) == ["PretrainBatch.mask_weights"]


def test_sentences_for_the_tagger(data):
    assert misshapen(pad([], 3, 8, data.special)) == []
