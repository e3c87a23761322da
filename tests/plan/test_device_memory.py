"""A device's memory: what every setting does to it, and its exact parts. XLA's count is in `test_compiler.py`."""

import functools
from dataclasses import replace

import pytest

from realm_jax.config import Config, ModelConfig
from realm_jax.experiments import base_wikipedia
from realm_jax.plan import device_memory
from realm_jax.plan.advice import changed

BASE = base_wikipedia.get_config()
CONFIG = changed(
    BASE,
    {
        "model.gradient_checkpointing": False,
        "model.scan_layers": False,
        "ict.micro_batch": 0,
        "pretrain.micro_batch": 0,
        "pretrain.micro_candidates": 0,
        "finetune.batch_size": 64,
        "finetune.micro_batch": 0,
    },
)
of_phase = functools.partial(device_memory.of_phase, platform="gpu")
PHASES = ["ict", "pretrain", "finetune"]


def activations(phase: str, devices: int = 8, **changes) -> int:
    config = changed(CONFIG, {name.replace("__", "."): value for name, value in changes.items()})
    return of_phase(config, phase, devices).step["activations"]


@pytest.mark.parametrize("phase", PHASES)
def test_it_falls_with_the_micro_batch(phase):
    sizes = [activations(phase, **{f"{phase}__micro_batch": size}) for size in (0, 4, 2, 1)]
    assert sizes == sorted(sizes, reverse=True) and sizes[1] > 1.9 * sizes[2] > 3.6 * sizes[3]


@pytest.mark.parametrize("phase", PHASES)
def test_checkpointing_keeps_less(phase):
    assert activations(phase, model__gradient_checkpointing=True) < activations(phase) / 5


def test_candidates_in_parts_keep_less():
    kept = {"pretrain__micro_batch": 4, "model__gradient_checkpointing": True}
    sizes = [activations("pretrain", pretrain__micro_candidates=part, **kept) for part in (0, 4, 2, 1)]
    assert sizes == sorted(sizes, reverse=True) and sizes[0] > 2 * sizes[3]


@pytest.mark.parametrize("phase", PHASES)
def test_eight_devices_have_an_eighth_of_the_batch(phase):
    one, eight = (of_phase(CONFIG, phase, devices) for devices in (1, 8))
    assert one.step["batch"] == 8 * eight.step["batch"]
    assert one.step["activations"] == pytest.approx(8 * eight.step["activations"], rel=1e-6)
    for part in ("parameters", "optimizer", "gradients"):
        assert one.step[part] == eight.step[part]


def test_parameters_moments_and_gradients_are_four_bytes_each():
    step = of_phase(CONFIG, "pretrain", 8).step
    assert step["parameters"] == step["gradients"] == step["optimizer"] / 2 == 4 * 219_095_226
    looped = changed(CONFIG, {"pretrain.micro_batch": 4, "model.scan_layers": True})
    parts = of_phase(looped, "pretrain", 8).step
    assert parts["gradients"] == 2 * step["gradients"]  # the sum and those of a part
    kept = of_phase(changed(CONFIG, {"pretrain.retriever_update_every": 500}), "pretrain", 8).step
    assert kept["optimizer"] - step["optimizer"] == 4 * 109_580_928


def test_scanned_layers_of_both_and_gradients_of_one_are_copied_in_the_compute_type():
    layers = 3 * 12 * (4 * 769 * 768 + 769 * 3072 + 3073 * 768 + 4 * 768)
    for dtype, size in {"bfloat16": 2, "float32": 4}.items():
        config = changed(CONFIG, {"model.scan_layers": True})
        config = replace(config, model=replace(config.model, dtype=dtype))
        assert of_phase(config, "pretrain", 8).step["stacked layers"] == size * layers


def test_exact_search_holds_two_versions_where_they_change():
    def search(config: Config, phase: str, blocks: int = 1000) -> int:
        return of_phase(config, phase, 8, blocks=blocks).beside["exact search"]

    assert search(CONFIG, "pretrain") == 2 * 1000 * 128 * 2 and search(CONFIG, "pretrain", 0) == 0
    assert search(CONFIG, "finetune") == 1000 * 128 * 2
    assert search(changed(CONFIG, {"finetune.train_retriever": "both"}), "finetune") == 2 * 1000 * 128 * 2


def test_a_query_without_activations_of_its_own_needs_none():
    frozen = changed(CONFIG, {"pretrain.train_retriever": False})
    step = of_phase(frozen, "pretrain", 8).step
    assert step["optimizer"] == 8 * 109_514_298
    assert step["activations"] < activations("pretrain")


def test_the_default_config_is_planned():
    assert of_phase(Config(model=ModelConfig()), "pretrain", 8).total > 2**30


def test_a_cpu_keeps_no_weights_of_attention():
    config = changed(CONFIG, {"model.dtype": "float32", "model.dropout": 0.0})
    gpu, cpu = (of_phase(config, "pretrain", 8, platform=platform).step["activations"] for platform in ("gpu", "cpu"))
    squares = 7 * 64 * 384**2 + 7 * 64 * 288**2 + 64 * 97**2 + 64 * 96**2  # 64 queries a device
    assert gpu - cpu == pytest.approx(4 * 2.5 * 12 * 12 * squares, rel=1e-6)
