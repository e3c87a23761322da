"""Sums over the states of spans, against the states themselves."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from realm_jax.models.span_sums import span_sums

ROWS, HIDDEN, WIDTHS = 2, 6, 4


@pytest.fixture(params=[9, WIDTHS, 2], ids="{} positions".format)
def drawn(request):
    """first, last and weights; the last case has fewer positions than widths."""
    rng = np.random.default_rng(request.param)
    both = rng.standard_normal((2, ROWS, request.param, HIDDEN))
    return tuple(jnp.asarray(x, jnp.float32) for x in (*both, rng.standard_normal(HIDDEN)))


def slow(first, last, weights):
    """The sums in float64, span by span."""
    first, last, weights = (np.asarray(x, float) for x in (first, last, weights))
    rows, positions, _ = first.shape
    sums = np.zeros((3, rows, WIDTHS, positions))
    for row, wider, start in np.ndindex(rows, WIDTHS, positions):
        end = start + wider
        state = np.maximum(first[row, start] + (last[row, end] if end < positions else 0.0), 0)
        sums[:, row, wider, start] = state.sum(), np.sum(state**2), weights @ state
    return sums


def kept(first, last, weights):
    """The same sums in JAX, which differentiates them itself."""
    last = jnp.pad(last, ((0, 0), (0, WIDTHS), (0, 0)))
    states = [jax.nn.relu(first + last[:, wider : wider + first.shape[1]]) for wider in range(WIDTHS)]
    states = jnp.stack(states, axis=1)
    return states.sum(-1), jnp.square(states).sum(-1), states @ weights


def test_sums_are_those_of_the_states(drawn):
    np.testing.assert_allclose(span_sums(*drawn, WIDTHS), slow(*drawn), rtol=1e-5, atol=1e-5)


def test_gradients_are_those_of_the_states(drawn):
    scales = jnp.asarray(np.random.default_rng(1).standard_normal((3, ROWS, WIDTHS, drawn[0].shape[1])), jnp.float32)

    def gradients(sums):
        total = lambda *of: sum(jnp.vdot(scale, found) for scale, found in zip(scales, sums(*of), strict=True))  # noqa: E731
        return jax.grad(total, (0, 1, 2))(*drawn)

    wanted = gradients(kept)
    for found, expected in zip(gradients(lambda *of: span_sums(*of, WIDTHS)), wanted, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
