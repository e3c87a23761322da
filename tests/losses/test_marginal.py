"""The marginal likelihood in both forms: golden numbers, slow NumPy sums and the gradient in the scores."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from realm_jax.losses import marginal

FORMS = {"token": marginal.token_marginal, "sequence": marginal.sequence_marginal}

# One query of two masked wordpieces and three candidates, the null block first; the results are worked out by hand.
GOLDEN_SCORES = [[0.0, 1.0, 2.0]]
GOLDEN_P = [[[0.10, 0.50], [0.60, 0.05], [0.30, 0.90]]]
GOLDEN_PRIOR = [0.090031, 0.244728, 0.665241]
GOLDEN = {
    "token": (2 * 0.728059, 2, [0.043053, 0.028829, -0.071882]),
    "sequence": (1.653085, 1, [0.066519, 0.206381, -0.272900]),
}
GOLDEN_UTILITY = 0.769807


def golden():
    """(scores, all candidates exist, log p(y_j | z, x), all weights 1)."""
    return (
        jnp.array(GOLDEN_SCORES),
        jnp.ones((1, 3), bool),
        jnp.log(jnp.array(GOLDEN_P)),
        jnp.ones((1, 2)),
    )


def random_case(seed):
    """The same for random shapes, with unused masks, a query without any, and candidates that do not exist."""
    rng = np.random.default_rng(seed)
    batch, candidates, masks = rng.integers(2, 6, 3)
    scores = rng.normal(0, 3, (batch, candidates)).astype(np.float32)
    exists = rng.random((batch, candidates)) < 0.7
    exists[:, 0] = True
    token_p = rng.uniform(0.01, 0.9, (batch, candidates, masks)).astype(np.float32)
    weights = (rng.random((batch, masks)) < 0.6).astype(np.float32)
    weights[0], weights[1, 0] = 0, 1
    return jnp.array(scores), jnp.array(exists), jnp.log(jnp.array(token_p)), jnp.array(weights)


def mean_loss(form, scores, exists, logp, weights):
    total, count = FORMS[form](marginal.log_prior(scores, exists), logp, weights)
    return total / count


def slow_prior(scores, exists):
    """p(z | x) of one query, by the definition and in double precision."""
    unnormalised = [np.exp(float(s)) if e else 0.0 for s, e in zip(scores, exists, strict=True)]
    return np.array(unnormalised) / sum(unnormalised)


def slow_loss(form, scores, exists, logp, weights):
    """(sum, count) by loops over queries, wordpieces and candidates."""
    token_p = np.exp(np.asarray(logp, np.float64))
    total, count = 0.0, 0
    for b in range(len(scores)):
        prior = slow_prior(scores[b], exists[b])
        used = [j for j in range(weights.shape[1]) if weights[b, j]]
        if form == "token":
            for j in used:
                total -= np.log(sum(prior[z] * token_p[b, z, j] for z in range(len(prior))))
                count += 1
        elif used:
            total -= np.log(sum(prior[z] * np.prod([token_p[b, z, j] for j in used]) for z in range(len(prior))))
            count += 1
    return total, count


def slow_reward(prior, p_of_y):
    """r(z) = [p(y | z, x) / p(y | x) - 1] p(z | x), from probabilities."""
    return (p_of_y / (prior @ p_of_y) - 1) * prior


@pytest.mark.parametrize("form", FORMS)
def test_golden_loss_and_gradient(form):
    scores, exists, logp, weights = golden()
    total, count = FORMS[form](marginal.log_prior(scores, exists), logp, weights)
    expected_total, expected_count, expected_gradient = GOLDEN[form]
    assert (float(total), float(count)) == (pytest.approx(expected_total, abs=2e-6), expected_count)
    gradient = jax.grad(lambda scores: mean_loss(form, scores, exists, logp, weights))(scores)
    np.testing.assert_allclose(gradient[0], expected_gradient, atol=1e-6)


def test_golden_prior_and_utility():
    scores, exists, logp, weights = golden()
    prior = marginal.log_prior(scores, exists)
    np.testing.assert_allclose(jnp.exp(prior)[0], GOLDEN_PRIOR, atol=1e-6)
    total, count = marginal.retrieval_utility(prior, logp, weights)
    assert float(total / count) == pytest.approx(GOLDEN_UTILITY, abs=1e-6)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("form", FORMS)
def test_loss_is_the_slow_sum(form, seed):
    scores, exists, logp, weights = random_case(seed)
    total, count = FORMS[form](marginal.log_prior(scores, exists), logp, weights)
    expected_total, expected_count = slow_loss(form, scores, exists, logp, weights)
    assert float(total) == pytest.approx(expected_total, rel=1e-5)
    assert float(count) == expected_count


@pytest.mark.parametrize("seed", range(4))
def test_utility_is_the_slow_sum(seed):
    scores, exists, logp, weights = random_case(seed)
    total, count = marginal.retrieval_utility(marginal.log_prior(scores, exists), logp, weights)
    loss, _ = slow_loss("token", scores, exists, logp, weights)
    null_loss = -(np.asarray(logp)[:, 0] * np.asarray(weights)).sum()
    assert float(total) == pytest.approx(null_loss - loss, abs=1e-4)
    assert float(count) == np.asarray(weights).sum()


@pytest.mark.parametrize("seed", range(4))
def test_sequence_gradient_is_minus_the_reward(seed):
    scores, exists, logp, weights = random_case(seed)
    prior = marginal.log_prior(scores, exists)
    gradient = jax.grad(lambda s: FORMS["sequence"](marginal.log_prior(s, exists), logp, weights)[0])(scores)
    reward = marginal.retrieval_reward(prior, logp, weights)
    for b in range(len(scores)):
        p_of_y = np.exp((np.asarray(logp[b], np.float64) * np.asarray(weights[b])).sum(-1))
        expected = slow_reward(slow_prior(scores[b], exists[b]), p_of_y)
        np.testing.assert_allclose(gradient[b], -expected, atol=1e-6)
        np.testing.assert_allclose(reward[b], expected, atol=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_token_gradient_is_minus_the_mean_reward_of_the_tokens(seed):
    scores, exists, logp, weights = random_case(seed)
    gradient = jax.grad(lambda s: mean_loss("token", s, exists, logp, weights))(scores)
    token_p, count = np.exp(np.asarray(logp, np.float64)), float(weights.sum())
    for b in range(len(scores)):
        prior = slow_prior(scores[b], exists[b])
        used = np.flatnonzero(weights[b])
        expected = sum((slow_reward(prior, token_p[b, :, j]) for j in used), np.zeros(len(prior))) / count
        np.testing.assert_allclose(gradient[b], -expected, atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_gradient_in_the_scores_sums_to_zero(form):
    scores, exists, logp, weights = random_case(11)
    gradient = jax.grad(lambda s: mean_loss(form, s, exists, logp, weights))(scores)
    np.testing.assert_allclose(gradient.sum(-1), 0, atol=1e-6)


@pytest.mark.parametrize("form", FORMS)
def test_a_missing_candidate_changes_nothing(form):
    """No probability, no gradient, no NaN: the loss and all gradients are those without the candidate."""
    scores, exists, logp, weights = golden()
    value, gradients = jax.value_and_grad(lambda s, p: mean_loss(form, s, exists, p, weights), (0, 1))(scores, logp)
    scores = jnp.concatenate([scores, jnp.array([[50.0]])], 1)
    exists = jnp.array([[True, True, True, False]])
    logp = jnp.concatenate([logp, jnp.full((1, 1, 2), -1e-3)], 1)
    assert float(jnp.exp(marginal.log_prior(scores, exists))[0, 3]) == 0
    longer, longer_gradients = jax.value_and_grad(lambda s, p: mean_loss(form, s, exists, p, weights), (0, 1))(
        scores, logp
    )
    assert float(longer) == pytest.approx(float(value), rel=1e-6)
    for before, after in zip(gradients, longer_gradients, strict=True):
        np.testing.assert_allclose(after[:, :3], before, atol=1e-7)
        np.testing.assert_array_equal(after[:, 3], 0)
    assert float(marginal.retrieval_reward(marginal.log_prior(scores, exists), logp, weights)[0, 3]) == 0


@pytest.mark.parametrize("form", FORMS)
def test_the_null_block_alone_is_plain_cross_entropy(form):
    scores, _, logp, weights = golden()
    alone = jnp.array([[True, False, False]])
    total, _ = FORMS[form](marginal.log_prior(scores, alone), logp, weights)
    assert float(total) == pytest.approx(-np.log(0.10) - np.log(0.50), rel=1e-6)


def test_forms_agree_on_single_wordpieces_and_differ_on_spans():
    scores, exists, logp, weights = golden()
    single = jnp.array([[1.0, 0.0]])
    totals = [float(f(marginal.log_prior(scores, exists), logp, single)[0]) for f in FORMS.values()]
    assert totals[0] == pytest.approx(totals[1], rel=1e-6)
    spans = [float(f(marginal.log_prior(scores, exists), logp, weights)[0]) for f in FORMS.values()]
    assert abs(spans[0] - spans[1]) > 0.1


@pytest.mark.parametrize("form", FORMS)
def test_no_prediction_at_all_is_zero_with_zero_gradient(form):
    scores, exists, logp, _ = golden()
    nothing = jnp.zeros((1, 2))
    total, count = FORMS[form](marginal.log_prior(scores, exists), logp, nothing)
    assert (float(total), float(count)) == (0, 0)
    gradient = jax.grad(lambda s: FORMS[form](marginal.log_prior(s, exists), logp, nothing)[0])(scores)
    np.testing.assert_array_equal(gradient, 0)
