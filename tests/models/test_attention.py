"""Attention in both its forms against a slow sum over each sequence, in values, gradients and dropout."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from realm_jax.batches import Tokens
from realm_jax.data.packing import Packing
from realm_jax.models import attention

HEADS, WIDTH, ROW = 2, 3, 12
FORMS = {"by_row": attention.by_row, "by_sequence": attention.by_sequence}


@pytest.fixture(autouse=True)
def several_rounded_lengths(monkeypatch):
    """Of a row of 12: 5, 10 and 12."""
    monkeypatch.setattr(attention, "STEP", 5)


@pytest.fixture(scope="module", params=["rows", "flat"])
def part(request):
    """Sequences of all lengths in rows, one of them empty, or in one long row."""
    lengths = np.array([1, 12, 5, 6, 10, 11, 4, 7, 2])
    mask = np.arange(ROW) < lengths[:, None]
    packing = Packing(Tokens(mask.astype(np.int32), mask, mask.astype(np.int32)), 1, is_flat=request.param == "flat")
    return jax.tree.map(lambda x: jnp.asarray(x[0]), packing.packed(packing.rows + 1))


@pytest.fixture(scope="module")
def inputs(part):
    rng = np.random.default_rng(0)
    return [jnp.asarray(rng.normal(size=(*part.ids.shape, HEADS, WIDTH)), jnp.float32) for _ in range(3)]


def slow(inputs, part, dropped=lambda number, weights: weights):
    """In double precision, [tokens, heads, width], zero at padding."""
    query, key, value = (np.asarray(x, np.float64).reshape(-1, HEADS, WIDTH) for x in inputs)
    result = np.zeros_like(query)
    for number, (start, length) in enumerate(zip(part.starts, part.lengths, strict=True)):
        rows = slice(int(start), int(start + length))
        for head in range(HEADS):
            scores = np.exp(query[rows, head] @ key[rows, head].T)
            weights = scores / scores.sum(-1, keepdims=True)
            result[rows, head] = dropped(number, weights) @ value[rows, head]
    return result


def only_real(x, part):
    return np.where(np.asarray(part.mask).reshape(-1, 1, 1), np.asarray(x).reshape(-1, HEADS, WIDTH), 0)


@pytest.mark.parametrize("form", FORMS)
def test_values_are_weighted_within_each_sequence(form, inputs, part):
    found = FORMS[form](*inputs, part, None, 0.5)
    np.testing.assert_allclose(only_real(found, part), slow(inputs, part), atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_gradients_are_those_of_a_small_step(form, inputs, part):
    """In double precision, along random directions of query, key and value."""
    rng = np.random.default_rng(1)
    mixed = rng.normal(size=inputs[0].shape) * np.asarray(part.mask)[..., None, None]

    def slow_sum(moved):
        return (slow(moved, part) * mixed.reshape(-1, HEADS, WIDTH)).sum()

    with jax.enable_x64(True):
        doubles = [jnp.asarray(np.asarray(x, np.float64)) for x in inputs]
        gradients = jax.grad(lambda xs: (FORMS[form](*xs, part, None, 0.5) * mixed).sum())(doubles)
        gradients = [np.asarray(x) for x in gradients]
    for which, gradient in enumerate(gradients):
        way = rng.normal(size=gradient.shape)
        ends = []
        for step in (1e-5, -1e-5):
            moved = [np.asarray(x, np.float64) for x in inputs]
            moved[which] = moved[which] + step * way
            ends.append(slow_sum(moved))
        assert (gradient * way).sum() == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6)


def test_rounded_up_or_whole_row_the_result_is_the_same(inputs, part):
    """And so it is on the device that there is."""
    ours = attention.attend(*inputs, part, None, 0.0)
    scaled = [inputs[0] * WIDTH**-0.5, *inputs[1:]]
    for form in FORMS.values():
        np.testing.assert_allclose(only_real(form(*scaled, part, None, 0.0), part), only_real(ours, part), atol=1e-6)


def test_dropout_of_a_sequence_is_the_same_in_both_passes(inputs, part):
    """With weights dropped as its own key says, values, and a gradient that is a small step's."""
    key = jax.random.key(5)

    def drop(number, weights):
        size = next(size for size in (5, 10, ROW) if size >= len(weights))
        kept = jax.random.bernoulli(jax.random.fold_in(key, number), 0.75, (HEADS, size, size))
        heads = np.asarray(kept)[:, : len(weights), : len(weights)]
        return weights * heads[drop.head] / 0.75

    result = np.zeros((part.ids.size, HEADS, WIDTH))
    for head in range(HEADS):
        drop.head = head
        result[:, head] = slow(inputs, part, drop)[:, head]
    run = functools.partial(attention.by_sequence, part=part, rng=key, rate=0.25)
    np.testing.assert_allclose(only_real(run(*inputs), part), result, atol=1e-6)
    assert not np.allclose(result, slow(inputs, part))
    way = np.random.default_rng(2).normal(size=inputs[1].shape).astype(np.float32)
    mixed = np.asarray(part.mask)[..., None, None] * way
    gradient = jax.grad(lambda k: (run(inputs[0], k, inputs[2]) * mixed).sum())(inputs[1])
    ends = [float((run(inputs[0], inputs[1] + step * way, inputs[2]) * mixed).sum()) for step in (1e-2, -1e-2)]
    assert float((gradient * way).sum()) == pytest.approx((ends[0] - ends[1]) / 2e-2, rel=1e-2)


@pytest.mark.parametrize("form", FORMS)
def test_dropout_keeps_the_mean(form, inputs, part):
    run = jax.jit(jax.vmap(lambda key: FORMS[form](*inputs, part, key, 0.3)))
    many = run(jax.random.split(jax.random.key(0), 2000))
    np.testing.assert_allclose(only_real(many.mean(0), part), slow(inputs, part), atol=0.15)
    assert only_real(many.std(0), part).max() > 0.2
