"""Reads masked sentences with the null block and with each of their candidates, as a training step does."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from realm_jax.batches import PretrainBatch
from realm_jax.config import Config
from realm_jax.models.knowledge_encoder import candidate_states
from realm_jax.training.pretrain_task import candidate_likelihoods, log_prior


class Reading(NamedTuple):
    """What one device makes of its queries; the null block is the first candidate."""

    prior: Float[Array, "batch candidates"]
    """log p(z|x)"""
    logp: Float[Array, "batch candidates masks"]
    """log p(y_j|z,x) of the right wordpieces."""
    states: Float[Array, "batch candidates masks hidden"]
    """The encoder's output at the masked positions."""


def read(config: Config, params: Any, batch: PretrainBatch) -> Reading:
    """Reads one device's queries, without dropout; the compiler drops what the caller does not use."""
    scores, logp, _ = candidate_likelihoods(config, params, batch, None)
    null = jax.tree.map(lambda x: x[:, None], batch.null_joint)
    states = [
        candidate_states(config.model, params["encoder"], tokens, batch.mask_positions)
        for tokens in (null, batch.joint)
    ]
    return Reading(log_prior(config, scores, batch), logp, jnp.concatenate(states, axis=1))
