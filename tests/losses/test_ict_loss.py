"""The in-batch softmax of the inverse cloze task against a slow cross-entropy, with padding rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from realm_jax.losses.ict_loss import in_batch_softmax


def random_case(seed, *, rows=7, dim=5):
    """(query, block, weight): the last rows and one in the middle are padding."""
    rng = np.random.default_rng(seed)
    query, block = rng.normal(size=(2, rows, dim)).astype(np.float32)
    weight = np.ones(rows, np.float32)
    weight[[2, rows - 1]] = 0
    return query, block, weight


def slow_cross_entropy(query, block, weight):
    """(sum, count, first) by loops over the real rows, in double precision."""
    real = np.flatnonzero(weight)
    total, first = 0.0, 0
    for i in real:
        scores = {j: float(np.dot(query[i].astype(np.float64), block[j])) for j in real}
        total += np.log(sum(np.exp(s) for s in scores.values())) - scores[i]
        first += max(scores, key=scores.get) == i
    return total, len(real), first


def whole(query, block, weight):
    weight = jnp.asarray(weight)
    return in_batch_softmax(jnp.asarray(query), jnp.asarray(block), jnp.int32(0), weight, weight)


@pytest.mark.parametrize("seed", range(6))
def test_is_the_slow_cross_entropy(seed):
    case = random_case(seed)
    np.testing.assert_allclose([float(x) for x in whole(*case)], slow_cross_entropy(*case), rtol=1e-5)


def test_shares_of_the_sentences_add_up():
    query, block, weight = (jnp.asarray(x) for x in random_case(3, rows=8))
    shares = [
        in_batch_softmax(query[i : i + 2], block, jnp.int32(i), weight[i : i + 2], weight) for i in range(0, 8, 2)
    ]
    np.testing.assert_allclose(np.sum(shares, axis=0), whole(query, block, weight), rtol=1e-5)


def test_gradient_is_softmax_minus_one_hot():
    query, block, weight = random_case(1)
    gradients = jax.grad(lambda q, z: whole(q, z, weight)[0], (0, 1))(query, block)
    real = np.flatnonzero(weight)
    scores = query[real].astype(np.float64) @ block[real].T
    p = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True) - np.eye(len(real))
    np.testing.assert_allclose(gradients[0][real], p @ block[real], atol=1e-5)
    np.testing.assert_allclose(gradients[1][real], p.T @ query[real], atol=1e-5)
    for gradient in gradients:
        np.testing.assert_array_equal(gradient[weight == 0], 0)


def test_padding_rows_are_no_negatives():
    query, block, weight = random_case(2)
    before = [float(x) for x in whole(query, block, weight)]
    block[weight == 0] *= 100
    query[weight == 0] *= -100
    assert [float(x) for x in whole(query, block, weight)] == pytest.approx(before, rel=1e-6)


def test_all_padding_is_zero_without_nan():
    query, block, weight = random_case(4)
    total, count, first = whole(query, block, 0 * weight)
    assert (float(total), float(count), float(first)) == (0, 0, 0)
    gradient = jax.grad(lambda q: whole(q, block, 0 * weight)[0])(query)
    np.testing.assert_array_equal(gradient, 0)
