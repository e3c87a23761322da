"""FLOPs by the formula: the paper's totals, what settings add, and what a batch of padding costs.

XLA's own count of a whole step is in `test_compiler.py`, and of larger ones in tests/docs/test_scaling.py.
"""

from dataclasses import replace

import numpy as np
import pytest

from realm_jax.config import Config, IctConfig, ModelConfig, PretrainConfig
from realm_jax.experiments import base_wikipedia
from realm_jax.plan import work

BASE = base_wikipedia.get_config()
PLAIN = replace(
    BASE,
    model=replace(BASE.model, gradient_checkpointing=False),
    ict=replace(BASE.ict, micro_batch=0),
    pretrain=replace(BASE.pretrain, micro_batch=0, micro_candidates=0),
)
BLOCKS = 13_353_718


def test_the_papers_totals():
    assert work.of_step(PLAIN, "pretrain").model == pytest.approx(1.38e15, rel=0.005)
    assert work.of_step(PLAIN, "ict").model * 100_000 == pytest.approx(7.74e19, rel=0.001)
    assert work.of_embedding(PLAIN.model, [(BLOCKS, 288)]) == pytest.approx(6.94e17, rel=0.001)


def test_a_bert_of_one_layer_by_hand():
    model = ModelConfig(hidden_size=3, num_heads=1, num_layers=1, intermediate_size=5)
    projections, wide, scores_and_context = 4 * 7 * 3 * 3, 2 * 7 * 3 * 5, 2 * 7 * 7 * 3
    assert work.bert_macs(model, np.array([7])) == projections + wide + scores_and_context
    assert work.bert_macs(model, np.array([7, 7, 1])) == 2 * work.bert_macs(model, np.array([7])) + 4 * 9 + 2 * 15 + 6


def again(phase: str, **changes) -> float:
    """Forward passes that are made again, in units of the step's forward pass."""
    settings = replace(PLAIN, **{s: replace(getattr(PLAIN, s), **fields) for s, fields in changes.items()})
    found = work.of_step(settings, phase, devices=8)
    return found.again / (found.model / 3)


def test_what_is_computed_again():
    assert again("ict") == again("pretrain") == 0
    assert again("ict", model={"gradient_checkpointing": True}) == pytest.approx(1)
    assert again("ict", ict={"micro_batch": 512}) == 0  # all of a device's share
    assert again("ict", ict={"micro_batch": 64}) == pytest.approx(1)
    assert again("ict", model={"gradient_checkpointing": True}, ict={"micro_batch": 64}) == pytest.approx(2)
    assert again("pretrain", pretrain={"micro_batch": 8}) == 0
    assert 0.9 < again("pretrain", model={"gradient_checkpointing": True}) < 1  # all but the head
    assert 0.9 < again("pretrain", pretrain={"micro_candidates": 1}) < 1  # all but queries and head
    assert again("pretrain", pretrain={"micro_candidates": 7}) == 0


def test_a_frozen_retriever_costs_its_forward_pass_alone():
    trained = work.of_step(PLAIN, "pretrain")
    frozen = work.of_step(replace(PLAIN, pretrain=replace(PLAIN.pretrain, train_retriever=False)), "pretrain")
    queries = 512 * work.bert_macs(PLAIN.model, np.array([96]))
    blocks = 7 * 512 * work.bert_macs(PLAIN.model, np.array([288])) + work.bert_macs(PLAIN.model, np.array([3]))
    assert trained.model - frozen.model == 4 * (queries + blocks)


def test_padding_is_computed_too():
    one = work.of_step(PLAIN, "finetune").model  # a batch of one question
    assert work.of_step(PLAIN, "finetune", devices=8).model == 8 * one


def test_the_head_runs_where_there_are_predictions():
    config = Config(ict=IctConfig(steps=0), pretrain=PretrainConfig(batch_size=8, num_candidates=3))
    fewer = work.of_step(config, "pretrain", predictions=4).model
    head = 8 * 3 * 768 * (768 + 30522)
    assert work.of_step(config, "pretrain").model - fewer == 6 * 6 * head


def test_sequences_of_a_corpus_take_the_rows_that_they_fill():
    """A block of 144 wordpieces takes half a row of 288, and a 93rd more; a sentence longer than its row takes one."""
    lengths = work.Lengths(sentence=200.0, block=144.0)
    query, block, joint = (work.bert_macs(PLAIN.model, np.array([length])) for length in (96, 288, 384))
    rows = {"query": 1.0, "block": 144 / 288 / 0.93, "joint": 344 / 384 / 0.93}
    blocks = 7 * 512 * (rows["block"] * block + rows["joint"] * joint)
    null, head = work.bert_macs(PLAIN.model, np.array([3])), work.head_macs(PLAIN.model, 512 * 10 * 8)
    found = work.of_step(PLAIN, "pretrain", lengths=lengths)
    assert found.model == pytest.approx(6 * (2 * 512 * query + blocks + null + head), rel=1e-9)
    assert found.retrieval == pytest.approx(2 * 512 * query, rel=1e-9)
