"""Micro-batches, chunks, checkpointed and scanned layers change what is in memory, and neither loss nor gradient.

What is expected is always the plain step: the whole batch at once, layers unrolled, on one device.
"""

import dataclasses
import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from realm_jax import parallel
from realm_jax.batches import FinetuneBatch, Tokens
from realm_jax.config import Config
from realm_jax.data.packing import Packing
from realm_jax.data.prepare import open_prepared
from realm_jax.index.store import IndexStore
from realm_jax.models import reader
from realm_jax.models.chunks import in_parts
from realm_jax.models.sequences import mean_of_each
from realm_jax.plan import longest_batch
from realm_jax.training import finetune_task, ict_task, loop, phases, pretrain_task
from realm_jax.training.room import Room
from tests import test_parallel
from tests.test_parallel import BATCH, BLOCK, CANDIDATES, JOINT, QUERY

READ, BEAM, WIDTH = 3, 5, 3
PLAIN = {"scan_layers": False, "gradient_checkpointing": False}
SAVING = {"scan_layers": True, "gradient_checkpointing": True}


def finetune_batch() -> FinetuneBatch:
    """Rows of padding among others, and questions without a right block or a right span."""
    rng = np.random.default_rng(5)
    query = test_parallel.random_tokens(rng, rng.integers(5, QUERY + 1, BATCH), QUERY)
    joint = test_parallel.random_tokens(rng, rng.integers(12, JOINT + 1, (BATCH, READ)), JOINT)
    body, beam_mask = joint.mask & (joint.types == 1), np.arange(BEAM) < rng.integers(READ, BEAM + 1, BATCH)[:, None]
    starts, ends = reader.spans(JOINT, WIDTH)
    is_inside = body[..., starts] & body[..., ends]
    return FinetuneBatch(
        query=dataclasses.replace(query, types=query.types * 0),
        beam_emb=rng.normal(size=(BATCH, BEAM, 8)).astype(np.float32),
        beam_mask=beam_mask,
        beam_correct=beam_mask & (rng.random(beam_mask.shape) < 0.3),
        blocks=test_parallel.random_tokens(rng, rng.integers(5, BLOCK + 1, (BATCH, READ)), BLOCK),
        joint=joint,
        body_mask=body,
        correct_spans=is_inside & (rng.random(is_inside.shape) < 0.04),
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

    def config(self, layers=PLAIN, **micro) -> Config:
        base = test_parallel.tiny(shared=self.name != "pretrain")
        model = dataclasses.replace(base.model, span_hidden_size=6, **layers)
        section = dataclasses.replace(getattr(base, self.name), batch_size=BATCH, **self.settings, **micro)
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

    def gradients(self, devices: int, parts: int, **settings):
        """(gradients, metrics) of `parallel.gradients` on some of the devices, of packed sequences."""
        if parts > 1:
            settings = settings | {"micro_batch": BATCH // devices // parts}
        config = self.config(**settings)
        loss, room = (
            self.loss(config),
            Room(config, devices * parts, longest_batch.parts(config, self.name, devices), {}),
        )
        batch = room.pack(self.batch(devices * parts))

        def step(params, batch):
            return parallel.gradients(loss, params, batch, jax.random.key(0), parts)

        on_devices = jax.pmap(step, axis_name=parallel.AXIS, in_axes=(None, 0), devices=jax.devices()[:devices])
        shares = jax.tree.map(lambda x: x.reshape(devices, -1, *x.shape[1:]), batch)
        return jax.tree.map(lambda x: np.asarray(x)[0], on_devices(self.params, shares))


PRETRAIN = Phase("pretrain", marginal="token", num_candidates=CANDIDATES)
SEQUENCE = Phase("pretrain", marginal="sequence", null_block=False, num_candidates=CANDIDATES)
ICT, ICT_NULL = Phase("ict"), Phase("ict", null_weight=0.5)
FINETUNE = Phase("finetune", train_retriever="both", max_span_width=WIDTH)

# phase, devices, parts of a device's share, settings
CASES = [
    pytest.param(PRETRAIN, 8, 2, {"micro_candidates": 2, "layers": SAVING}, id="pretrain, all at once, on eight"),
    pytest.param(PRETRAIN, 1, 4, {}, id="pretrain, micro-batches"),
    pytest.param(PRETRAIN, 1, 1, {"micro_candidates": 1}, id="pretrain, candidate by candidate"),
    pytest.param(PRETRAIN, 1, 1, {"layers": SAVING}, id="pretrain, layers scanned and checkpointed"),
    pytest.param(SEQUENCE, 1, 8, {"micro_candidates": 2}, id="spans without null block"),
    pytest.param(SEQUENCE, 8, 2, {}, id="spans without null block, on eight"),
    pytest.param(ICT_NULL, 8, 1, {"micro_batch": 1, "layers": SAVING}, id="ICT with null block, on eight"),
    pytest.param(ICT_NULL, 1, 1, {"micro_batch": 4}, id="ICT with null block"),
    pytest.param(ICT, 8, 1, {"micro_batch": 1}, id="ICT, on eight"),
    pytest.param(ICT, 1, 1, {"micro_batch": 1, "layers": SAVING}, id="ICT, all at once"),
    pytest.param(FINETUNE, 8, 2, {"layers": SAVING}, id="finetune, on eight"),
    pytest.param(FINETUNE, 1, 4, {}, id="finetune"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("phase", "devices", "parts", "settings"), CASES)
def test_gradient_and_loss_are_those_of_the_plain_step(phase, devices, parts, settings):
    ours, expected = phase.gradients(devices, parts, **settings), phase.plain
    test_parallel.assert_same(ours, expected)
    total, count = expected[1]["loss"]
    assert ours[1]["loss"] == (pytest.approx(total, rel=1e-6), count)
    flat = [np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(grads)]) for grads in (ours[0], expected[0])]
    assert np.linalg.norm(flat[0] - flat[1]) < 1.5e-6 * np.linalg.norm(flat[1])


@pytest.mark.slow
@pytest.mark.parametrize("phase", ["ict", "pretrain"])
def test_a_run_in_micro_batches_has_the_same_losses(pretrained_run, tmp_path, phase):
    """The loop hands the setting on, and batches are made for it."""
    data, first, losses = open_prepared(pretrained_run), phases.first_params(pretrained_run), []
    for micro_batch in (0, 2):
        settings = {"steps": 3, "batch_size": 32, "micro_batch": micro_batch, "log_every": 1}
        section = dataclasses.replace(getattr(pretrained_run.config, phase), **settings)
        config, folder = dataclasses.replace(pretrained_run.config, **{phase: section}), tmp_path / str(micro_batch)
        if phase == "ict":
            loop.run(ict_task.IctTask(config, data, first), folder)
        else:
            store = IndexStore(pretrained_run.index_folder)
            frozen = dataclasses.replace(config, pretrain=dataclasses.replace(section, index_refresh_every=0))
            loop.run(pretrain_task.PretrainTask(frozen, data, store, first), folder)
        losses.append([json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()])
    assert len(losses[0]) == 3
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


# The same without a model, in no time.


def table_loss(params, batch, rng):
    """A loss whose gradient is not the same for each row, and whose rows do not count alike."""
    ids, weight = batch
    del rng
    total = (jnp.tanh(params[ids]) * weight).sum()
    return total, weight.sum(), {"twice": (2 * total, weight.sum()), "rows": (jnp.float32(len(ids)), 1.0)}


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_gradients_are_added_up_and_divided_once(parts):
    rng = np.random.default_rng(0)
    table, ids = rng.normal(size=9).astype(np.float32), rng.integers(0, 9, 64)
    weight = (np.arange(64) % 8 < np.arange(64) / 16).astype(np.float32)  # device 0 has 1 of 8, device 7 has 4
    expected = np.zeros(9)
    np.add.at(expected, ids, weight * (1 - np.tanh(table[ids].astype(float)) ** 2) / weight.sum())

    def step(params, batch):
        return parallel.gradients(table_loss, params, batch, jax.random.key(0), parts)

    on_devices = parallel.on_local_devices(step)(parallel.replicate(table), parallel.shard((ids, weight)))
    gradient, metrics = jax.device_get(parallel.unreplicate(on_devices))
    np.testing.assert_allclose(gradient, expected, rtol=1e-5, atol=1e-8)
    total = (np.tanh(table[ids]) * weight).sum()
    assert metrics["loss"] == (pytest.approx(total, rel=1e-5), weight.sum())
    assert metrics["twice"] == (pytest.approx(2 * total, rel=1e-5), weight.sum())
    assert metrics["rows"][0] == 64


def test_each_part_has_dropout_of_its_own():
    def loss(params, batch, rng):
        return (params * batch * jax.random.uniform(rng)).sum(), jnp.float32(1 / 8 / 4), {}

    def step(params, batch):
        rng = jax.random.fold_in(jax.random.key(0), parallel.device_index())
        return parallel.gradients(loss, params, batch, rng, 4)[0]

    rows = parallel.shard(np.eye(32, dtype=np.float32))  # each sees another parameter, whose gradient is the draw
    draws = parallel.unreplicate(parallel.on_local_devices(step)(parallel.replicate(jnp.zeros(32)), rows))
    assert len(np.unique(draws)) == 32


def dropped(table, part, rng):
    """An embedding of each sequence: the mean of squashed rows of a table, half of which are dropped."""
    kept = 1.0 if rng is None else jax.random.bernoulli(rng, 0.5, (*part.ids.shape, 1)) * 2.0
    return jnp.tanh(mean_of_each(jnp.tanh(table[part.ids]) * kept, part))


def random_sequences(count) -> Tokens:
    rng = np.random.default_rng(count)
    return test_parallel.random_tokens(rng, rng.integers(5, BLOCK + 1, count), BLOCK)


def packed(tokens, parts):
    packing = Packing(tokens, parts)
    return jax.tree.map(jnp.asarray, packing.packed(packing.rows))


TABLE = np.random.default_rng(1).normal(size=(test_parallel.VOCAB, 4)).astype(np.float32)


@pytest.mark.parametrize("parts", [2, 4, 12])
def test_results_of_parts_are_those_of_the_sequences_in_their_order(parts):
    tokens, weights = random_sequences(12), np.random.default_rng(2).normal(size=(12, 4)).astype(np.float32)

    def loss(table, parts):
        results = in_parts(functools.partial(dropped, jnp.asarray(table)), packed(tokens, parts), None)
        return (results * weights).sum(), results

    plain, ours = (jax.value_and_grad(loss, has_aux=True)(TABLE, number) for number in (1, parts))
    expected = [np.tanh(np.tanh(TABLE[row[mask]]).mean(0)) for row, mask in zip(tokens.ids, tokens.mask, strict=True)]
    np.testing.assert_allclose(ours[0][1], expected, rtol=1e-5, atol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), ours, plain)


def test_other_inputs_go_with_their_sequences():
    tokens, others = random_sequences(12), np.arange(12.0)
    parts = packed(tokens, 4)
    found = in_parts(lambda part, rng, x: x * part.lengths, parts, None, jnp.asarray(others))
    np.testing.assert_array_equal(found, others * tokens.mask.sum(-1))


def test_the_backward_pass_drops_what_the_forward_pass_dropped():
    """Against a loop over the parts that keeps everything; no two parts drop the same."""
    parts, key = packed(random_sequences(8), 4), jax.random.key(3)

    def in_loop(table):
        each = [jax.tree.map(lambda x, i=i: x[i], parts) for i in range(4)]
        found = [dropped(table, part, jax.random.fold_in(key, i)) for i, part in enumerate(each)]
        return (jnp.concatenate(found) ** 3).sum()

    def ours(table):
        return (in_parts(functools.partial(dropped, table), parts, key) ** 3).sum()

    found, expected = (jax.value_and_grad(function)(jnp.asarray(TABLE)) for function in (ours, in_loop))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, expected)
    same = jax.tree.map(lambda x: jnp.repeat(x[:1], 8, axis=0), packed(random_sequences(8), 8))
    assert len(np.unique(in_parts(functools.partial(dropped, jnp.asarray(TABLE)), same, key)[:, 0])) > 6


def test_only_results_are_kept_for_the_backward_pass():
    """With the table, and none of the rows in between."""
    tokens = random_sequences(64)

    def kept(parts):
        sequences = packed(tokens, parts)
        _, pullback = jax.vjp(lambda x: in_parts(functools.partial(dropped, x), sequences, None), jnp.asarray(TABLE))
        return sum(leaf.nbytes for leaf in jax.tree.leaves(pullback) if leaf.dtype == jnp.float32)

    assert kept(8) <= TABLE.nbytes + 64 * 4 * 4 < 64 * BLOCK * 4 < kept(1)
