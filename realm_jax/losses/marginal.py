"""The marginal likelihood p(y | x) = sum_z p(y | z, x) p(z | x) over the candidates (Guu et al. 2020, equation 1).

Two forms. The released code, and so every descendant of it, marginalises each masked wordpiece by itself; the paper
marginalises the span. They differ whenever a span has more than one wordpiece. Candidate 0 is the null block.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def log_prior(
    scores: Float[Array, "batch candidates"], candidate_mask: Bool[Array, "batch candidates"]
) -> Float[Array, "batch candidates"]:
    """log p(z | x): softmax of the retrieval scores over the candidates that exist; -inf elsewhere."""
    return jax.nn.log_softmax(jnp.where(candidate_mask, scores, -jnp.inf), axis=-1)


def token_marginal(
    prior_logp: Float[Array, "batch candidates"],
    token_logp: Float[Array, "batch candidates masks"],
    mask_weights: Float[Array, "batch masks"],
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """-sum_j log sum_z p(z | x) p(y_j | z, x), with the number of predicted wordpieces (released code)."""
    logp = token_marginal_logp(prior_logp, token_logp)
    return -(logp * mask_weights).sum(), mask_weights.sum()


def token_marginal_logp(
    prior_logp: Float[Array, "batch candidates"], token_logp: Float[Array, "batch candidates masks"]
) -> Float[Array, "batch masks"]:
    """log p(y_j | x) of each masked wordpiece by itself."""
    return jax.nn.logsumexp(prior_logp[..., None] + token_logp, axis=1)


def sequence_marginal(
    prior_logp: Float[Array, "batch candidates"],
    token_logp: Float[Array, "batch candidates masks"],
    mask_weights: Float[Array, "batch masks"],
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """-sum_x log sum_z p(z | x) prod_j p(y_j | z, x), with the number of queries that predict anything (the paper)."""
    span_logp = (token_logp * mask_weights[:, None, :]).sum(-1)  # [batch, candidates]
    logp = jax.nn.logsumexp(prior_logp + span_logp, axis=1)
    queries = (mask_weights.sum(-1) > 0).astype(logp.dtype)
    return -(logp * queries).sum(), queries.sum()


def retrieval_utility(
    prior_logp: Float[Array, "batch candidates"],
    token_logp: Float[Array, "batch candidates masks"],
    mask_weights: Float[Array, "batch masks"],
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """sum_j log p(y_j | x) - log p(y_j | null, x), with its count: what retrieval adds to the null block (App. D)."""
    gain = token_marginal_logp(prior_logp, token_logp) - token_logp[:, 0]
    return (gain * mask_weights).sum(), mask_weights.sum()


def retrieval_reward(
    prior_logp: Float[Array, "batch candidates"],
    token_logp: Float[Array, "batch candidates masks"],
    mask_weights: Float[Array, "batch masks"],
) -> Float[Array, "batch candidates"]:
    """r(z) = [p(y | z, x) / p(y | x) - 1] p(z | x), the gradient of log p(y | x) in f(x, z) (App. A).

    Positive where the block predicts the span better than the mixture does, so that training raises its score.
    """
    span_logp = (token_logp * mask_weights[:, None, :]).sum(-1)
    joint = prior_logp + span_logp
    posterior = jax.nn.softmax(joint, axis=-1)
    return posterior - jnp.exp(prior_logp)
