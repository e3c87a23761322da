"""The compiled step: its memory is the compiler's, for devices that need not exist; what a TPU's compiler refuses."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from realm_jax.config import Config, ModelConfig, PretrainConfig
from realm_jax.plan import compiled, longest_batch
from realm_jax.plan.compiled import Objective, compiled_step
from realm_jax.training.fit import objective as objective_of

ROWS, WIDTH, DEVICES = 6, 256, 8
FLOAT32 = 4
MATRIX = FLOAT32 * WIDTH * WIDTH


def linear(params, batch, rng):
    del rng
    return ((batch @ params) ** 2).sum(), jnp.float32(batch.shape[0]), {}


def objective(optimizer=None, micro_batches=1) -> Objective:
    params = jax.ShapeDtypeStruct((WIDTH, WIDTH), jnp.float32)
    return Objective(linear, optimizer or optax.sgd(0.1), params, 0, micro_batches)


def batch(devices=DEVICES):
    return jax.ShapeDtypeStruct((devices, ROWS, WIDTH), jnp.float32)


def test_arguments_are_parameters_moments_and_batch_of_one_device():
    sgd, adam = compiled_step(objective(), batch()), compiled_step(objective(optax.adam(0.1)), batch())
    own_batch, counts = FLOAT32 * ROWS * WIDTH, 64  # of steps
    assert MATRIX + own_batch <= sgd.arguments_bytes <= MATRIX + own_batch + counts
    assert adam.arguments_bytes - sgd.arguments_bytes == pytest.approx(2 * MATRIX, abs=counts)
    assert sgd.available_bytes is None


def test_what_is_reserved_holds_the_gradient_and_counts_no_donated_state_twice():
    said = compiled_step(objective(), batch())
    assert said.temporaries_bytes >= MATRIX
    assert said.reserved_bytes == pytest.approx(said.arguments_bytes + said.temporaries_bytes, abs=MATRIX / 2)


def test_flops_are_those_of_one_device():
    """A forward product and that of the weight's gradient: the batch needs none."""
    said = compiled_step(objective(), batch())
    assert said.flops == pytest.approx(2 * 2 * ROWS * WIDTH * WIDTH, rel=0.3)


def test_it_can_be_compiled_for_some_devices_alone():
    said = compiled_step(objective(), batch(2), jax.devices()[:2])
    assert said.arguments_bytes == compiled_step(objective(), batch()).arguments_bytes


def test_micro_batches_are_part_of_the_program():
    texts = [compiled.lowered_step(objective(micro_batches=parts), batch()).as_text() for parts in (1, 3)]
    assert ["while" in text for text in texts] == [False, True]


@pytest.mark.parametrize(
    ("text", "needed", "available"),
    [
        (
            "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (18.26G) "
            "exceeds available HBM (15.48G).",
            18.26,
            15.48,
        ),
        (
            "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm. Used 23.50G "
            "of 15.75G hbm. Exceeded hbm capacity by 7.75G.",
            23.5,
            15.75,
        ),
    ],
    ids=["before its buffers are placed", "after"],
)
def test_a_tpus_compiler_says_how_much_is_missing(text, needed, available, monkeypatch):
    class Lowered:
        def compile(self):
            raise jax.errors.JaxRuntimeError(text)

    monkeypatch.setattr(compiled, "lowered_step", lambda *arguments: Lowered())
    said = compiled_step(objective(), batch())
    sizes = np.array([said.reserved_bytes, said.available_bytes]) / 2**30
    np.testing.assert_allclose(sizes, [needed, available], rtol=1e-6)
    assert said.arguments_bytes == said.temporaries_bytes == 0


def test_another_error_of_the_compiler_stays_an_error(monkeypatch):
    class Lowered:
        def compile(self):
            raise jax.errors.JaxRuntimeError("INTERNAL: nothing to do with memory")

    monkeypatch.setattr(compiled, "lowered_step", lambda *arguments: Lowered())
    with pytest.raises(jax.errors.JaxRuntimeError, match="nothing to do with memory"):
        compiled_step(objective(), batch())


def test_scanned_layers_are_in_the_program_once():
    """Products of matrices take the compiler's time: another layer adds none, where an unrolled one does."""

    def products(*, scan: bool, layers: int) -> int:
        model = ModelConfig(vocab_size=100, hidden_size=8, num_heads=2, num_layers=layers, intermediate_size=16)
        model = dataclasses.replace(model, gradient_checkpointing=True, scan_layers=scan)
        config = Config(model=model, pretrain=PretrainConfig(batch_size=16, micro_batch=1, num_candidates=3))
        longest = longest_batch.of_phase(config, "pretrain", DEVICES)
        return compiled.lowered_step(objective_of(config, "pretrain", DEVICES), longest).as_text().count("dot_general")

    assert products(scan=True, layers=3) == products(scan=True, layers=2) > 0
    assert products(scan=False, layers=3) > products(scan=False, layers=2) + 8
