"""Micro-batches, chunks, checkpointed and scanned layers change what is in memory, and neither loss nor gradient.

What is expected is always the plain step: the whole batch at once, layers unrolled, on one device.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from realm_jax import parallel
from realm_jax.batches import FinetuneBatch, Tokens
from realm_jax.config import Config, ConfigError
from realm_jax.models import reader
from realm_jax.models.chunks import in_chunks
from realm_jax.training import finetune_task, ict_task, pretrain_task
from tests import test_parallel
from tests.test_parallel import BATCH, BLOCK, JOINT, QUERY

READ, BEAM, WIDTH = 3, 5, 3
PLAIN = {"scan_layers": False, "gradient_checkpointing": False}
SAVING = {"scan_layers": True, "gradient_checkpointing": True}

pytestmark = pytest.mark.usefixtures("quick_compilation")


def finetune_batch(shares=1) -> FinetuneBatch:
    """Rows of padding among others, beams and spans without anything right."""
    del shares
    rng = np.random.default_rng(5)
    query = test_parallel.random_tokens(rng, rng.integers(5, QUERY + 1, BATCH), QUERY)
    joint = test_parallel.random_tokens(rng, rng.integers(12, JOINT + 1, (BATCH, READ)), JOINT)
    spans = len(reader.spans(JOINT, WIDTH)[0])
    return FinetuneBatch(
        query=dataclasses.replace(query, types=query.types * 0),
        beam_emb=rng.normal(size=(BATCH, BEAM, 8)).astype(np.float32),
        beam_mask=np.arange(BEAM) < rng.integers(READ, BEAM + 1, BATCH)[:, None],
        beam_correct=rng.random((BATCH, BEAM)) < 0.3,
        blocks=test_parallel.random_tokens(rng, rng.integers(5, BLOCK + 1, (BATCH, READ)), BLOCK),
        joint=joint,
        body_mask=joint.mask & (joint.types == 1),
        correct_spans=rng.random((BATCH, READ, spans)) < 0.02,
        weight=(np.arange(BATCH) % 5 > 0).astype(np.float32),
    )


def finetune_params(config):
    towers, rng = test_parallel.random_params(config)["embedder"], np.random.default_rng(3)
    first = reader.init(config.model, jax.random.key(4))
    return {
        "embedder": towers,
        "reader": jax.tree.map(lambda x: x + rng.normal(0, 0.3, x.shape).astype(np.float32), first),
    }


class Phase:
    """One of the three: its loss, parameters and a random batch for a number of shares."""

    def __init__(self, name: str, **settings):
        self.name, self.settings = name, settings

    def config(self, *, dropout=0.0, layers=PLAIN, **micro) -> Config:
        base = test_parallel.tiny(shared=self.name == "ict")
        model = dataclasses.replace(base.model, span_hidden_size=6, dropout=dropout, **layers)
        section = dataclasses.replace(getattr(base, self.name), **self.settings, **micro)
        return dataclasses.replace(base, model=model, **{self.name: section})

    def loss(self, config: Config):
        module = {"pretrain": pretrain_task, "ict": ict_task, "finetune": finetune_task}[self.name]
        function = getattr(module, {"pretrain": "realm_loss"}.get(self.name, f"{self.name}_loss"))
        return functools.partial(function, config)

    @functools.cached_property
    def params(self):
        params = (finetune_params if self.name == "finetune" else test_parallel.random_params)(self.config())
        return {"embedder": params["embedder"]} if self.name == "ict" else params

    def batch(self, shares=1):
        if self.name == "pretrain":
            return test_parallel.random_pretrain_batch(devices=shares)
        return test_parallel.random_ict_batch() if self.name == "ict" else finetune_batch()

    @functools.cached_property
    def plain(self):
        """(gradients, metrics) by `jax.grad` of the mean, without anything of `parallel`'s."""
        loss = test_parallel.on_an_axis_of_one(self.loss(self.config()))
        return test_parallel.on_one(loss)(self.params, self.batch())

    def gradients(self, devices: int, parts: int = 1, rng_seed=0, **settings):
        """(gradients, metrics) of `parallel.gradients` on some of the devices."""
        loss = self.loss(self.config(**settings))

        def step(params, batch):
            return parallel.gradients(loss, params, batch, jax.random.key(rng_seed), parts)

        on_devices = jax.pmap(step, axis_name=parallel.AXIS, in_axes=(None, 0), devices=jax.devices()[:devices])
        shares = jax.tree.map(lambda x: x.reshape(devices, -1, *x.shape[1:]), self.batch(devices * parts))
        return jax.device_get(parallel.unreplicate(on_devices(self.params, shares)))


PRETRAIN = Phase("pretrain", marginal="token")
SEQUENCE = Phase("pretrain", marginal="sequence", null_block=False)
ICT, ICT_NULL = Phase("ict"), Phase("ict", null_weight=0.5)
FINETUNE = Phase("finetune", train_retriever="both", max_span_width=WIDTH)
slow = pytest.mark.slow

# phase, devices, parts of a device's share, settings
CASES = [
    pytest.param(PRETRAIN, 8, 2, {"micro_candidates": 2, "layers": SAVING}, id="pretrain, all at once"),
    pytest.param(PRETRAIN, 1, 4, {}, id="pretrain, micro-batches", marks=slow),
    pytest.param(PRETRAIN, 1, 1, {"micro_candidates": 1}, id="pretrain, candidate by candidate", marks=slow),
    pytest.param(PRETRAIN, 1, 1, {"layers": SAVING}, id="pretrain, layers scanned and checkpointed", marks=slow),
    pytest.param(SEQUENCE, 1, 8, {"micro_candidates": 2}, id="spans without null block", marks=slow),
    pytest.param(SEQUENCE, 8, 2, {}, id="spans without null block, on eight", marks=slow),
    pytest.param(ICT_NULL, 8, 1, {"micro_batch": 1, "layers": SAVING}, id="ICT with null block, on eight"),
    pytest.param(ICT_NULL, 1, 1, {"micro_batch": 4}, id="ICT with null block", marks=slow),
    pytest.param(ICT, 8, 1, {"micro_batch": 1}, id="ICT, on eight", marks=slow),
    pytest.param(ICT, 1, 1, {"micro_batch": 1, "layers": SAVING}, id="ICT, all at once", marks=slow),
    pytest.param(FINETUNE, 8, 2, {"layers": SAVING}, id="finetune, on eight"),
    pytest.param(FINETUNE, 1, 4, {}, id="finetune", marks=slow),
]


@pytest.mark.parametrize(("phase", "devices", "parts", "settings"), CASES)
def test_gradient_and_loss_are_those_of_the_plain_step(phase, devices, parts, settings):
    ours, expected = phase.gradients(devices, parts, **settings), phase.plain
    test_parallel.assert_same(ours, expected)
    total, count = expected[1]["loss"]
    assert ours[1]["loss"] == (pytest.approx(total, rel=1e-6), count)
    flat = [np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(grads)]) for grads in (ours[0], expected[0])]
    assert np.linalg.norm(flat[0] - flat[1]) < 1e-6 * np.linalg.norm(flat[1])
