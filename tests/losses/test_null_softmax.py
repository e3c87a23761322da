"""The null block's loss in ICT against sums written out one sentence at a time."""

import jax
import jax.numpy as jnp
import numpy as np

from realm_jax.losses.ict_loss import in_batch_softmax, null_softmax


def inputs():
    rng = np.random.default_rng(0)
    query_emb, all_block_emb = (rng.normal(size=(n, 6)).astype(np.float32) for n in (3, 9))
    weight, all_weight = np.array([1, 1, 0], np.float32), np.ones(9, np.float32)
    all_weight[[2, 5]] = 0  # row 2 of this device is padding, and so is one of another device
    null_emb = rng.normal(size=6).astype(np.float32)
    return tuple(map(jnp.asarray, (query_emb, all_block_emb, 0, weight, all_weight, null_emb)))


def test_null_block_competes_with_all_but_the_own_block():
    query_emb, all_block_emb, first, weight, all_weight, null_emb = inputs()
    expected = 0.0
    for i in np.flatnonzero(weight):
        others = [query_emb[i] @ all_block_emb[j] for j in range(9) if all_weight[j] and j != first + i]
        null = query_emb[i] @ null_emb
        expected += np.log(np.exp(null) + np.exp(others).sum()) - null
    np.testing.assert_allclose(null_softmax(*inputs()), expected, rtol=1e-5)


def test_null_block_is_one_more_negative_of_the_own_block():
    query_emb, all_block_emb, first, weight, all_weight, null_emb = inputs()
    expected = 0.0
    for i in np.flatnonzero(weight):
        scores = [query_emb[i] @ all_block_emb[j] for j in range(9) if all_weight[j]] + [query_emb[i] @ null_emb]
        expected += np.log(np.exp(scores).sum()) - query_emb[i] @ all_block_emb[first + i]
    total, count, _ = in_batch_softmax(*inputs())
    np.testing.assert_allclose(total, expected, rtol=1e-5)
    assert count == 2


def test_gradients_are_finite_with_padding():
    query_emb, *rest = inputs()
    grads = jax.grad(lambda q, b, n: null_softmax(q, b, *rest[1:4], n), argnums=(0, 1, 2))(query_emb, rest[0], rest[4])
    assert all(np.isfinite(g).all() for g in grads)
    assert np.abs(grads[2]).max() > 0
