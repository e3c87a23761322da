"""The planner's FLOPs and bytes against XLA's own counts of the real steps, from shapes alone."""

import json
import os
import subprocess
import sys

import pytest

from realm_jax.config import Config, CorpusConfig, FinetuneConfig, IctConfig, ModelConfig, PretrainConfig
from realm_jax.models import attention
from realm_jax.plan import longest_batch, work
from realm_jax.plan.advice import changed
from realm_jax.plan.compiled import lowered_step
from realm_jax.training.fit import objective

DEVICES = 8
CONFIG = Config(
    model=ModelConfig(
        vocab_size=3000,
        hidden_size=128,
        num_layers=2,
        num_heads=2,
        intermediate_size=512,
        max_positions=128,
        dropout=0.0,
    ),
    corpus=CorpusConfig(knowledge="any", block_len_tokens=48),
    ict=IctConfig(batch_size=32, query_len_tokens=32),
    pretrain=PretrainConfig(batch_size=16, num_candidates=4, query_len_tokens=32, max_masks=4),
    finetune=FinetuneConfig(batch_size=16, question_len_tokens=32, reader_blocks=2, beam_blocks=8),
)


@pytest.fixture(autouse=True)
def all_rows_at_once(monkeypatch):
    """As accelerators compute attention: XLA counts the body of a loop over the sequences once."""
    monkeypatch.setattr(attention, "by_sequence", attention.by_row)


def ratio(phase: str, config: Config = CONFIG) -> float:
    """XLA's count of a step before it is optimised, over ours, which has matmuls alone."""
    step = lowered_step(objective(config, phase, DEVICES), longest_batch.of_phase(config, phase, DEVICES))
    ours = work.of_step(config, phase, devices=DEVICES)
    return step.cost_analysis()["flops"] / ((ours.model + ours.again) / DEVICES)


def test_the_formula_is_xlas_count_but_for_what_is_no_matmul():
    assert 1 < ratio("ict") < 1.08
    assert 1 < ratio("pretrain") < 1.08


@pytest.mark.slow
def test_so_it_is_for_fine_tuning_and_a_frozen_retriever():
    assert 1 < ratio("finetune") < 1.1
    assert 1 < ratio("finetune", changed(CONFIG, {"finetune.train_retriever": "both"})) < 1.1
    assert 1 < ratio("finetune", changed(CONFIG, {"finetune.train_retriever": "none"})) < 1.1
    assert 1 < ratio("pretrain", changed(CONFIG, {"pretrain.train_retriever": False})) < 1.1


COMPILED = """
import json, sys
sys.path.insert(0, "benchmarks")
import plan
print(json.dumps(plan.memory_row(*json.loads(sys.argv[1]))))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("phase", "changes"),
    [
        ("ict", {}),
        ("ict", {"ict.micro_batch": 16}),
        ("pretrain", {}),
        ("pretrain", {"pretrain.micro_batch": 4}),
        ("pretrain", {"model.scan_layers": True, "model.gradient_checkpointing": True}),
        ("pretrain", {"model.scan_layers": True, "model.gradient_checkpointing": True, "pretrain.micro_candidates": 1}),
    ],
    ids=str,
)
def test_the_memory_is_the_compilers_within_15_percent(phase, changes, request):
    """In a process of its own: the compiler's flags are read once."""
    arguments = json.dumps(["experiments/nano.py", phase, changes])
    root = request.config.rootpath
    environment = {**os.environ, "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-c", COMPILED, arguments], cwd=root, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    row = json.loads(done.stdout.splitlines()[-1])
    assert row["planned_bytes"] == pytest.approx(row["compiled_bytes"], rel=0.15)
