"""REALM's joint forward pass: p(z | x) and p(y | z, x) of every candidate block (Guu et al. 2020, §3.1-3.2).

Training, filling and evaluation all call `forward` and take what they need of it: under `jit` the compiler drops what
is not used. The null block enters here, as candidate 0: it is embedded once for the whole batch, and read at the
query's own length.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PRNGKeyArray

from realm_jax.batches import PretrainBatch
from realm_jax.config import Config
from realm_jax.losses import marginal
from realm_jax.models import embedder, knowledge_encoder


class Forward(NamedTuple):
    """What the model makes of one batch. Candidate 0 is the null block."""

    scores: Float[Array, "batch candidates"]
    """Retrieval scores f(x, z)."""
    prior: Float[Array, "batch candidates"]
    """log p(z | x) over `candidates_of`; a query that has none of them reads the null block alone."""
    states: Float[Array, "batch candidates masks hidden"]
    """The encoder's last hidden states at the masked positions."""
    logp: Float[Array, "batch candidates masks"]
    """log p(y_j | z, x) of each masked wordpiece; 0 where there is none."""
    hits: Bool[Array, "batch candidates masks"]
    """Whether y_j is the candidate's most probable wordpiece."""


def forward(config: Config, params: Any, batch: PretrainBatch, rng: PRNGKeyArray | None) -> Forward:
    """Scores the candidates of one device's queries and reads each with its query; no dropout without `rng`.

    Args:
        params: `embedder` and `encoder`. The embedder gets no gradient where `pretrain.train_retriever` is off.
    """
    rngs = [None] * 5 if not config.model.dropout or rng is None else list(jax.random.split(rng, 5))
    scores = candidate_scores(config, params["embedder"], batch, rngs[:3])
    states = _candidate_states(config, params["encoder"], batch, rngs[3:])
    logp, hits = knowledge_encoder.token_logp(
        config.model, params["encoder"], states, batch.mask_targets, batch.mask_slots
    )
    return Forward(scores, _log_prior(config, scores, batch), states, logp, hits)


def candidates_of(config: Config, batch: PretrainBatch) -> Bool[Array, "batch candidates"]:
    """Which candidates p(z | x) is over: the blocks that were found, and the null block if the config has one."""
    return batch.candidate_mask if config.pretrain.null_block else batch.candidate_mask & ~_is_null(batch)


def candidate_scores(
    config: Config, retriever: dict, batch: PretrainBatch, rngs: list[PRNGKeyArray | None]
) -> Float[Array, "batch candidates"]:
    """f(x, z) of the null block and of the blocks that were found.

    Args:
        rngs: for the dropout of queries, blocks and the null block.
    """
    model = config.model
    if not config.pretrain.train_retriever:
        retriever = jax.lax.stop_gradient(retriever)
    query_emb = embedder.embed(model, retriever, "query", batch.query, rngs[0])
    block_emb = embedder.embed(model, retriever, "block", batch.blocks, rngs[1])
    block_emb = block_emb.reshape(len(query_emb), -1, block_emb.shape[-1])
    null_emb = embedder.embed(model, retriever, "block", embedder.null_block(batch.query), rngs[2])
    return jnp.concatenate([query_emb @ null_emb.T, embedder.retrieval_scores(query_emb, block_emb)], axis=1)


def _candidate_states(
    config: Config, encoder: dict, batch: PretrainBatch, rngs: list[PRNGKeyArray | None]
) -> Float[Array, "batch candidates masks hidden"]:
    def read(joint, rng):
        return knowledge_encoder.candidate_states(config.model, encoder, joint, batch.mask_positions, rng)

    null_states, states = read(batch.null_joint, rngs[0]), read(batch.joint, rngs[1])
    return jnp.concatenate([null_states, states], axis=1)


def _log_prior(
    config: Config, scores: Float[Array, "batch candidates"], batch: PretrainBatch
) -> Float[Array, "batch candidates"]:
    exists = candidates_of(config, batch)
    return marginal.log_prior(scores, exists | (_is_null(batch) & ~exists.any(-1, keepdims=True)))


def _is_null(batch: PretrainBatch) -> Bool[Array, " candidates"]:
    return jnp.arange(batch.candidate_mask.shape[-1]) == 0
