"""The knowledge-augmented encoder: masked positions, and the head that runs where there is a prediction."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from realm_jax.batches import Tokens
from realm_jax.config import ModelConfig
from realm_jax.data.assembly import mask_slots
from realm_jax.models import knowledge_encoder
from realm_jax.models.bert import Bert
from realm_jax.models.sequences import alone

CONFIG = ModelConfig(
    vocab_size=60, hidden_size=16, num_layers=2, num_heads=2, intermediate_size=24, max_positions=16, dropout=0.0
)
BATCH, CANDIDATES, MASKS, LENGTH = 4, 3, 5, 12


candidate_states = jax.jit(knowledge_encoder.candidate_states, static_argnames="config")
token_logp = jax.jit(knowledge_encoder.token_logp, static_argnames="config")


@pytest.fixture(scope="module")
def params():
    rng = np.random.default_rng(0)
    params = knowledge_encoder.init(CONFIG, jax.random.key(0))
    return jax.tree.map(lambda x: x + jnp.asarray(rng.normal(0, 0.2, x.shape), x.dtype), params)


@pytest.fixture(scope="module")
def joint():
    rng = np.random.default_rng(1)
    shape = (BATCH, CANDIDATES, LENGTH)
    ids = rng.integers(0, CONFIG.vocab_size, shape).astype(np.int32)
    mask = np.arange(LENGTH) < rng.integers(8, LENGTH + 1, shape[:2])[..., None]
    return Tokens(jnp.asarray(ids), jnp.asarray(mask), jnp.asarray(np.arange(LENGTH) > 5, jnp.int32) + 0 * ids)


@pytest.fixture(scope="module")
def predictions():
    """(positions, targets, weights): 2, 0, 5 and 1 predictions of up to 5."""
    rng = np.random.default_rng(2)
    positions = rng.integers(1, 6, (BATCH, MASKS)).astype(np.int32)
    targets = rng.integers(0, CONFIG.vocab_size, (BATCH, MASKS)).astype(np.int32)
    weights = (np.arange(MASKS) < np.array([2, 0, 5, 1])[:, None]).astype(np.float32)
    return positions, targets, weights


def everywhere(params, joint, positions):
    """log p over the vocabulary [batch, candidates, masks, vocab], from the logits of whole sequences."""
    every = jnp.tile(jnp.arange(LENGTH), (BATCH * CANDIDATES, 1))
    encoder = knowledge_encoder.KnowledgeEncoder(CONFIG)
    whole = np.asarray(jax.jit(encoder.apply)({"params": params}, alone(joint), every))
    rows = [whole[b * CANDIDATES + k][positions[b]] for b in range(BATCH) for k in range(CANDIDATES)]
    logits = np.stack(rows).reshape(BATCH, CANDIDATES, MASKS, -1).astype(np.float64)
    return logits - np.log(np.exp(logits).sum(-1, keepdims=True))


def test_slots_give_the_same_as_logits_everywhere(params, joint, predictions):
    positions, targets, weights = predictions
    states = candidate_states(CONFIG, params, joint, jnp.asarray(positions))
    slots = mask_slots(weights, 1)
    assert len(slots) < weights.size  # the grid is really cut
    logp, best = token_logp(CONFIG, params, states, jnp.asarray(targets), jnp.asarray(slots))
    full = everywhere(params, joint, positions)
    expected = np.take_along_axis(full, np.repeat(targets[:, None], CANDIDATES, 1)[..., None], -1)[..., 0]
    used = np.repeat(weights[:, None] > 0, CANDIDATES, 1)
    np.testing.assert_allclose(np.asarray(logp)[used], expected[used], atol=2e-5)
    np.testing.assert_array_equal(np.asarray(logp)[~used], 0)
    np.testing.assert_array_equal(np.asarray(best), (expected == full.max(-1)) & used)


def test_marginal_hits_are_what_all_candidates_together_predict(params, predictions):
    _, targets, weights = predictions
    rng, slots = np.random.default_rng(3), mask_slots(weights, 1)
    states = rng.normal(size=(BATCH, CANDIDATES, MASKS, CONFIG.hidden_size)).astype(np.float32)
    prior = np.log(rng.dirichlet(np.ones(CANDIDATES), BATCH))
    head = functools.partial(knowledge_encoder.KnowledgeEncoder(CONFIG).apply, method="head")
    logits = np.asarray(head({"params": params}, jnp.asarray(states.reshape(-1, states.shape[-1]))), np.float64)
    of_each = np.exp(logits).reshape(*states.shape[:3], -1)
    of_each /= of_each.sum(-1, keepdims=True)
    together = (np.exp(prior)[:, :, None, None] * of_each).sum(1).argmax(-1)
    assert ((of_each.argmax(-1) != together[:, None]) & (weights[:, None] > 0)).any()  # they do not all agree
    targets = np.where(np.arange(MASKS) % 2, targets, together).astype(np.int32)
    hits = jax.jit(knowledge_encoder.marginal_hits, static_argnames="config")(
        CONFIG, params, *map(jnp.asarray, (states, prior.astype(np.float32), targets, slots))
    )
    np.testing.assert_array_equal(hits, (together == targets) & (weights > 0))
    assert hits.any() and (np.asarray(hits) != (weights > 0)).any()


def test_slots_give_the_same_gradients(params, joint, predictions):
    positions, targets, weights = (jnp.asarray(x) for x in predictions)

    def loss(params, slots):
        states = candidate_states(CONFIG, params, joint, positions)
        logp, _ = token_logp(CONFIG, params, states, targets, slots)
        return (logp * weights[:, None]).sum()

    gradient = jax.jit(jax.grad(loss))
    cut, whole = gradient(params, jnp.asarray(mask_slots(predictions[2], 1))), gradient(params, jnp.arange(20))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), cut, whole)


def test_best_is_true_where_the_target_is_the_most_probable(params, joint, predictions):
    positions = jnp.asarray(predictions[0])
    states = candidate_states(CONFIG, params, joint, positions)
    tokens, logp = knowledge_encoder.best_tokens(CONFIG, params, states)
    logits = np.asarray(everywhere(params, joint, predictions[0]), np.float64)
    np.testing.assert_array_equal(tokens, logits.argmax(-1))
    np.testing.assert_allclose(logp, logits.max(-1) - np.log(np.exp(logits).sum(-1)), atol=1e-5)
    for k in range(CANDIDATES):
        _, best = token_logp(CONFIG, params, states, tokens[:, k], jnp.arange(BATCH * MASKS))
        assert np.asarray(best)[:, k].all()


def test_states_are_those_of_the_bert_at_the_positions(params, joint, predictions):
    states = candidate_states(CONFIG, params, joint, jnp.asarray(predictions[0]))
    assert states.shape == (BATCH, CANDIDATES, MASKS, CONFIG.hidden_size)
    hidden = jax.jit(Bert(CONFIG).apply)({"params": params["bert"]}, alone(jax.tree.map(lambda x: x[2], joint)))
    np.testing.assert_allclose(states[2], hidden[:, predictions[0][2]], atol=1e-5)


def test_no_prediction_at_all(params, joint, predictions):
    states = candidate_states(CONFIG, params, joint, jnp.asarray(predictions[0]))
    slots = mask_slots(np.zeros((BATCH, MASKS), np.float32), 1)
    logp, best = token_logp(CONFIG, params, states, jnp.asarray(predictions[1]), jnp.asarray(slots))
    assert not np.asarray(logp).any()
    assert not np.asarray(best).any()


def test_dropout_only_with_a_key(params, joint, predictions):
    noisy = ModelConfig(**{**CONFIG.__dict__, "dropout": 0.5})
    positions = jnp.asarray(predictions[0])
    still = candidate_states(CONFIG, params, joint, positions)
    np.testing.assert_array_equal(candidate_states(noisy, params, joint, positions), still)
    assert not np.allclose(candidate_states(noisy, params, joint, positions, jax.random.key(0)), still)
