"""Where the null block is off, a query that nothing was found for changes nothing and is counted."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from realm_jax import parallel
from realm_jax.data.assembly import with_candidates
from realm_jax.data.pipeline import Examples, MaskedSentences
from realm_jax.data.prepare import open_prepared
from realm_jax.eval import heldout
from realm_jax.training import phases
from realm_jax.training.pretrain_task import realm_loss

BATCH, ALONE = 6, 2
"""Queries, and which of them has no candidate."""


@pytest.fixture(scope="module")
def data(tiny_run):
    return open_prepared(tiny_run)


@pytest.fixture(scope="module")
def params(tiny_run):
    rng = np.random.default_rng(0)
    first = phases.first_params(tiny_run)
    return jax.tree.map(lambda x: (x + rng.normal(0, 0.3, x.shape)).astype(np.float32), first)


def with_setting(tiny_run, **pretrain):
    return dataclasses.replace(tiny_run.config, pretrain=dataclasses.replace(tiny_run.config.pretrain, **pretrain))


@pytest.fixture(scope="module")
def queries(tiny_run, data):
    """(masked sentences, candidates [batch, candidates]): some miss one, ALONE misses all."""
    sentences = MaskedSentences(data.text, data.special, tiny_run.config.pretrain, 0.2)
    candidates = np.random.default_rng(1).integers(data.knowledge.num_blocks, size=(BATCH, 3))
    candidates[4, 1:] = candidates[ALONE] = -1
    return Examples(len(sentences), sentences.example, 0).batch(0, BATCH), candidates


def gradient_of(config, params, queries, candidates, data):
    """(gradient, metrics) on one device, as the training step has them."""
    batch = with_candidates(queries, candidates, data.knowledge, 1)
    loss, rng = functools.partial(realm_loss, config), jax.random.key(0)
    step = jax.pmap(
        lambda params, batch: parallel.gradients(loss, params, batch, rng),
        axis_name=parallel.AXIS,
        in_axes=(None, 0),
        devices=jax.local_devices()[:1],
    )
    result = step(params, jax.tree.map(lambda x: x[None], batch))
    return jax.device_get(jax.tree.map(lambda x: x[0], result))


def test_such_a_query_is_as_if_it_were_not_there(tiny_run, data, params, queries):
    config = with_setting(tiny_run, null_block=False)
    both, candidates = queries
    others = np.arange(BATCH) != ALONE
    alike = jax.tree.map(lambda x: x[others], both)
    gradient, metrics = gradient_of(config, params, both, candidates, data)
    expected, expected_metrics = gradient_of(config, params, alike, candidates[others], data)
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(gradient), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6, err_msg=jax.tree_util.keystr(path))
    assert any(np.abs(leaf).max() > 1e-3 for leaf in jax.tree.leaves(gradient["embedder"]))
    assert metrics.pop("without_candidates") == (1, BATCH)
    assert expected_metrics.pop("without_candidates") == (0, BATCH - 1)
    for name in set(metrics) - {"tokens"}:
        np.testing.assert_allclose(metrics[name], expected_metrics[name], rtol=1e-5, atol=1e-6, err_msg=name)


def test_a_batch_of_such_queries_has_no_gradient(tiny_run, data, params, queries):
    config = with_setting(tiny_run, null_block=False, marginal="sequence")
    gradient, metrics = gradient_of(config, params, queries[0], np.full((BATCH, 3), -1), data)
    assert not any(leaf.any() for leaf in jax.tree.leaves(gradient))
    assert metrics["loss"] == (0, 0) and metrics["without_candidates"] == (BATCH, BATCH)


def test_with_the_null_block_every_query_has_a_candidate(tiny_run, data, params, queries):
    """A query that only the null block is left for keeps its weight: the encoder learns from it."""
    both, candidates = queries
    batch = with_candidates(both, candidates, data.knowledge, 1)
    total, count, metrics = jax.jit(functools.partial(realm_loss, tiny_run.config))(params, batch, None)
    assert "without_candidates" not in metrics and np.isfinite(total)
    assert count == both.mask_weights.sum() and metrics["null_share"][1] == BATCH


def test_held_out_examples_without_candidates_have_the_null_blocks_loss(tiny_run, data, params, monkeypatch):
    config = with_setting(tiny_run, null_block=False, eval_examples=16, recall_examples=16)
    examples = heldout.heldout_set(config, data)

    def nothing_for_some(found, source_hash, knowledge):
        found = np.array(found, np.int32)
        found[:3] = -1
        return found

    monkeypatch.setattr(heldout, "drop_source", nothing_for_some)
    values, _ = heldout.evaluate(config, data, examples, params, "some without candidates")
    assert all(np.isfinite(value).all() for value in values.values())
    for kind in ("retrieved", "random"):
        np.testing.assert_allclose(values[f"loss_{kind}"][:3], values["loss_null"][:3], rtol=1e-6)
        np.testing.assert_allclose(values[f"accuracy_{kind}"][:3], values["accuracy_null"][:3], rtol=1e-6)
    assert values["utility"][:3] == pytest.approx(0, abs=1e-5) and np.abs(values["utility"][3:]).min() > 1e-5
    assert values["null_share"].tolist() == [1, 1, 1] + [0] * (len(values["null_share"]) - 3)
