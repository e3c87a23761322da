"""The advice where a step does not fit: what it names fits, and nothing cheaper does."""

import pytest

from realm_jax.config import Config, IctConfig, ModelConfig, PretrainConfig
from realm_jax.plan import device_memory
from realm_jax.plan.advice import advice, changed, smallest_change

MODEL = ModelConfig(vocab_size=1000, hidden_size=128, num_layers=6, num_heads=4, intermediate_size=512)
CONFIG = Config(model=MODEL, ict=IctConfig(batch_size=1024), pretrain=PretrainConfig(batch_size=128))
DEVICES = 8


def needed(config: Config, phase: str) -> int:
    return device_memory.of_phase(config, phase, DEVICES, platform="gpu").total


@pytest.mark.parametrize("phase", ["ict", "pretrain", "finetune"])
def test_what_it_names_fits_and_the_next_larger_does_not(phase):
    limit = needed(changed(CONFIG, {f"{phase}.micro_batch": 1}), phase) + 1_000_000
    limit = max(limit, needed(CONFIG, phase) // 3)
    found = smallest_change(CONFIG, phase, DEVICES, needed=needed(CONFIG, phase), available=limit, platform="gpu")
    assert needed(changed(CONFIG, found), phase) <= limit
    (name, value), *others = found.items()
    if not others and name.endswith("micro_batch"):
        assert needed(changed(CONFIG, {name: 2 * value}), phase) > limit


def test_micro_batches_come_before_checkpointing_and_that_before_candidates():
    whole = needed(CONFIG, "pretrain")
    steps = {}
    for part in range(99, 0, -1):
        found = smallest_change(
            CONFIG, "pretrain", DEVICES, needed=whole, available=whole * part // 100, platform="gpu"
        )
        if found is None:
            break
        steps.setdefault(tuple(found), part)
    assert list(steps) == [
        ("pretrain.micro_batch",),
        ("pretrain.micro_batch", "model.gradient_checkpointing"),
        ("pretrain.micro_batch", "model.gradient_checkpointing", "pretrain.micro_candidates"),
    ]


def test_a_compilers_count_moves_the_advice():
    ours = needed(CONFIG, "pretrain")
    by_us = smallest_change(CONFIG, "pretrain", DEVICES, needed=ours, available=ours // 2, platform="gpu")
    by_it = smallest_change(CONFIG, "pretrain", DEVICES, needed=3 * ours, available=ours // 2, platform="gpu")
    assert by_it["pretrain.micro_batch"] < by_us["pretrain.micro_batch"]


def test_it_is_one_line_with_both_figures_and_the_flags():
    said = advice(CONFIG, "pretrain", DEVICES, needed=40 * 2**30, available=15 * 2**30, platform="gpu")
    assert said.startswith(
        "a step of pretrain needs 40.0 GiB on each device, which has 15.0: pass --pretrain.micro_batch="
    )
    assert "\n" not in said


def test_where_nothing_helps_it_says_so():
    said = advice(CONFIG, "ict", DEVICES, needed=2**30, available=1000, platform="gpu")
    assert said.endswith("pass a smaller --ict.batch_size, or use more devices or larger ones")
