"""Dropout is on in the training step of every phase, follows its seed, and is off wherever something is judged."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from realm_jax import parallel
from realm_jax.data.prepare import open_prepared
from realm_jax.data.questions import datasets
from realm_jax.eval.heldout import evaluate, heldout_set
from realm_jax.index.embed_blocks import TowerEmbedder
from realm_jax.index.store import IndexStore
from realm_jax.models import realm
from realm_jax.openqa.predict import Answerer
from realm_jax.training import phases
from realm_jax.training.finetune_task import FinetuneTask
from realm_jax.training.finetuning import Finetuning
from realm_jax.training.ict_task import IctTask
from realm_jax.training.pretrain_task import PretrainTask

ROUNDING = {"rtol": 1e-3, "atol": 1e-5}
"""Of a program that an earlier test may have compiled otherwise; dropout moves everything by far more."""


def with_dropout(config, rate=0.3):
    return dataclasses.replace(config, model=dataclasses.replace(config.model, dropout=rate))


def ict(run, config):
    return IctTask(config, open_prepared(run), phases.first_params(run))


def pretrain(run, config):
    return PretrainTask(config, open_prepared(run), IndexStore(run.index_folder), phases.first_params(run))


def finetune(run, config):
    finetuning = Finetuning(run, "dropout", "cloze", dataclasses.replace(config.finetune, max_span_width=4))
    data, first = open_prepared(run), finetuning.first_params()
    questions = datasets.load("cloze", "train", run=data, config=config)[:16]
    config = dataclasses.replace(finetuning.config, model=config.model)
    store = IndexStore(run.index_folder)
    return FinetuneTask(config, data, questions, store, first, lambda params: 0.0, finetuning.folder)


@pytest.fixture(scope="module")
def run(pretrained_run, copy_run, tmp_path_factory):
    """A run with an index, whose settings suit each of the phases."""
    return copy_run(pretrained_run, tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def losses(run):
    """Of each phase, `key -> loss` of one batch, with dropout in the config."""
    made = {}
    for make in (ict, pretrain, finetune):
        task = make(run, with_dropout(run.config))
        params = jax.tree.map(jnp.asarray, task.init())
        stream = task.stream({})
        batch = jax.device_get(stream.take(parallel.replicate(params)))
        stream.close()
        made[make] = loss_of_step(task, params, batch)
    return made


def loss_of_step(task, params, batch):
    """`key -> loss` as `parallel.train_step` computes it, on an axis of eight devices that are one."""

    def share(batch, device, key):
        total, count, _ = task.loss(params, batch, jax.random.fold_in(key, device))
        return total, count

    @jax.jit
    def loss(key):
        on_axis = jax.vmap(share, in_axes=(0, 0, None), axis_name=parallel.AXIS)
        totals, counts = on_axis(batch, jnp.arange(parallel.num_devices()), key)
        return totals.sum() / counts.sum()

    return loss


@pytest.mark.parametrize("phase", [ict, pretrain, finetune])
def test_a_step_differs_with_the_key_and_repeats_with_the_same(losses, phase):
    loss = losses[phase]
    one, other, again = (float(loss(jax.random.key(seed))) for seed in (1, 2, 1))
    assert one == again != other


def test_every_part_of_a_pretraining_step_has_dropout(run):
    """Query, blocks and null block move the scores; the encoder with blocks and with the null block the likelihoods."""
    task = pretrain(run, with_dropout(run.config))
    stream = task.stream({})
    params = jax.tree.map(jnp.asarray, task.init())
    batch = jax.tree.map(lambda x: jnp.asarray(x[0]), jax.device_get(stream.take(parallel.replicate(params))))
    stream.close()
    run_forward = jax.jit(lambda rng: realm.forward(task._config, params, batch, rng))
    one, other = (run_forward(jax.random.key(seed)) for seed in (1, 2))
    exists, weights = np.asarray(batch.candidate_mask), np.asarray(batch.mask_weights)
    assert (one.scores != other.scores)[exists].all()
    for candidates in (slice(0, 1), slice(1, None)):  # the null block, the others
        used = exists[:, candidates, None] & (weights[:, None, :] > 0)
        assert used.any() and (one.logp[:, candidates] != other.logp[:, candidates])[used].all()


def test_the_steps_key_comes_from_seed_step_and_device():
    """Eight devices draw eight numbers, other ones in the next step and with another seed, the same ones again."""

    def draws(seed):
        def loss(params, batch, rng):
            return (params * batch * jax.random.uniform(rng, batch.shape)).sum(), jnp.float32(1 / 8), {}

        step = parallel.compiled_train_step(loss, optax.sgd(1.0), seed)
        state = parallel.replicate(parallel.TrainState(jnp.int32(0), jnp.zeros(8), optax.sgd(1.0).init(jnp.zeros(8))))
        seen = []
        for _ in range(2):  # each device sees another parameter, so that its draw is that parameter's gradient
            before = np.asarray(parallel.unreplicate(state.params))
            state, _ = step(state, parallel.shard(np.eye(8, dtype=np.float32)))
            seen.append(before - np.asarray(parallel.unreplicate(state.params)))
        return np.concatenate(seen)

    first = draws(0)
    np.testing.assert_array_equal(first, draws(0))
    assert len(np.unique(np.concatenate([first, draws(1)]))) == 32


def test_blocks_and_queries_are_embedded_without_dropout(run):
    data, params = open_prepared(run), phases.first_params(run)["embedder"]
    tokens = data.knowledge.embedder_tokens(np.arange(16), run.config.corpus.block_len_tokens)
    for side in ("query", "block"):
        ours, plain = (TowerEmbedder(c, params, side)(tokens) for c in (with_dropout(run.config), run.config))
        np.testing.assert_allclose(ours, plain, **ROUNDING)


def test_held_out_sentences_are_judged_without_dropout(run):
    sizes = dataclasses.replace(run.config.pretrain, eval_examples=8, recall_examples=16)
    config = dataclasses.replace(run.config, pretrain=sizes)
    data, params = open_prepared(run), phases.first_params(run)
    heldout = heldout_set(config, data)
    ours, plain = (evaluate(c, data, heldout, params, "x")[0] for c in (with_dropout(config), config))
    for name, values in plain.items():
        np.testing.assert_allclose(ours[name], values, err_msg=name, **ROUNDING)


def test_questions_are_answered_without_dropout(run):
    finetuning = Finetuning(run, "dropout", "cloze", dataclasses.replace(run.config.finetune, max_span_width=4))
    data, params = open_prepared(run), finetuning.first_params()
    questions = datasets.load("cloze", "dev", run=data, config=run.config)[:4]
    index = finetuning.index_of(data, params, IndexStore(run.index_folder))
    ours, plain = (
        Answerer(config, data, params, index).answer(questions, num_blocks=2, depth=2, name="x")
        for config in (with_dropout(finetuning.config), finetuning.config)
    )
    assert [p.answer for p in ours] == [p.answer for p in plain]
    for name in ("probability", "retrieval_scores"):
        values = [[getattr(p, name) for p in predictions] for predictions in (ours, plain)]
        np.testing.assert_allclose(*values, **ROUNDING)
