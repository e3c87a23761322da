"""The knowledge-augmented encoder: p(y | z, x) from query and block read together (Guu et al. 2020, §3.2).

A BERT over `[CLS] masked query [SEP] block body [SEP]` (the released code leaves the title out here) whose MLM head,
tied to the word embeddings, is applied to the masked positions alone.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from realm_jax.batches import Packed, Tokens
from realm_jax.config import ModelConfig
from realm_jax.models.bert import Bert, MlmHead
from realm_jax.models.chunks import in_parts
from realm_jax.models.sequences import any_sequence, at_places, packed


class KnowledgeEncoder(nn.Module):
    """BERT with its MLM head."""

    config: ModelConfig

    def setup(self) -> None:
        """BERT and head."""
        self.bert = Bert(self.config)
        self.mlm = MlmHead(self.config)

    def __call__(
        self, tokens: Packed, positions: Int[Array, "sequences masks"], deterministic: bool = True
    ) -> Float[Array, "sequences masks vocab"]:
        """Vocabulary logits at `positions` of each sequence of one part."""
        states = self.masked_states(tokens, positions, deterministic)
        logits = self.head(states.reshape(-1, states.shape[-1]))
        return logits.reshape(*positions.shape, -1)

    def masked_states(
        self, tokens: Packed, positions: Int[Array, "sequences masks"], deterministic: bool = True
    ) -> Float[Array, "sequences masks hidden"]:
        """Hidden states at `positions` of each sequence."""
        return at_places(self.bert(tokens, deterministic), tokens.starts, positions)

    def head(self, states: Float[Array, "positions hidden"]) -> Float[Array, "positions vocab"]:
        """Vocabulary logits of hidden states."""
        return self.mlm(states, self.bert.embeddings.word.embedding)


def init(config: ModelConfig, rng: PRNGKeyArray) -> dict:
    """Random parameters."""
    positions = jax.ShapeDtypeStruct((1, 1), jnp.int32)
    return KnowledgeEncoder(config).lazy_init(rng, any_sequence(), positions)["params"]


def candidate_states(
    config: ModelConfig,
    params: dict,
    joint: Tokens | Packed,
    positions: Int[Array, "batch masks"],
    rng: PRNGKeyArray | None = None,
) -> Float[Array, "batch candidates masks hidden"]:
    """Hidden states at the masked positions, which are the same for every candidate of a query.

    Args:
        joint: [batch, candidates, tokens], or as many packed sequences.
        rng: for dropout; without it there is none.
    """
    joint = packed(joint)

    def states_of_part(part, rng, positions):
        rngs = None if rng is None else {"dropout": rng}
        encoder = KnowledgeEncoder(config)
        return encoder.apply(
            {"params": params}, part, positions, deterministic=rng is None, rngs=rngs, method="masked_states"
        )

    batch, candidates = len(positions), joint.starts.size // len(positions)
    states = in_parts(states_of_part, joint, rng, jnp.repeat(positions, candidates, axis=0))
    return states.reshape(batch, candidates, *states.shape[1:])


def token_logp(
    config: ModelConfig,
    params: dict,
    states: Float[Array, "batch candidates masks hidden"],
    targets: Int[Array, "batch masks"],
    slots: Int[Array, " used"],
) -> tuple[Float[Array, "batch candidates masks"], Bool[Array, "batch candidates masks"]]:
    """log p(y_j | z, x) of every predicted wordpiece.

    The head is the most expensive matmul of a small encoder and most of the [batch, masks] grid is empty, so it runs
    only where `slots` says that there is a prediction.

    Args:
        slots: flat places b * masks + j of real predictions; batch * masks where unused.

    Returns:
        log-probabilities (0 where unused), and whether each target is the most probable wordpiece.
    """
    batch, candidates, masks, _ = states.shape
    logits, wanted = _slot_logits(config, params, states, targets, slots)
    at_target = jnp.take_along_axis(logits, wanted[:, None, None], axis=-1)[..., 0]
    logp = at_target - jax.nn.logsumexp(logits, axis=-1)
    hits = at_target >= logits.max(-1)

    def scatter(values, empty):
        grid = jnp.full((batch * masks, candidates), empty)
        return grid.at[slots].set(values, mode="drop").reshape(batch, masks, candidates).transpose(0, 2, 1)

    return scatter(logp, 0.0), scatter(hits, False)


def marginal_hits(
    config: ModelConfig,
    params: dict,
    states: Float[Array, "batch candidates masks hidden"],
    prior: Float[Array, "batch candidates"],
    targets: Int[Array, "batch masks"],
    slots: Int[Array, " used"],
) -> Bool[Array, "batch masks"]:
    """Whether each target is the wordpiece w with the highest sum_z p(w | z, x) p(z | x); False where unused.

    Args:
        prior: log p(z | x).
        slots: as `token_logp` takes them.
    """
    logits, wanted = _slot_logits(config, params, states, targets, slots)
    of_query = prior.at[slots // targets.shape[1]].get(mode="fill", fill_value=0.0)
    together = jax.nn.logsumexp(of_query[..., None] + jax.nn.log_softmax(logits), axis=1)
    grid = jnp.zeros(targets.size, bool)
    return grid.at[slots].set(together.argmax(-1) == wanted, mode="drop").reshape(targets.shape)


def _slot_logits(config, params, states, targets, slots) -> tuple[Array, Array]:
    """Vocabulary logits [used, candidates, vocab] at the slots, and their targets [used]."""
    batch, candidates, masks, hidden = states.shape
    by_slot = states.transpose(0, 2, 1, 3).reshape(batch * masks, candidates, hidden)
    used = by_slot.at[slots].get(mode="fill", fill_value=0.0)
    wanted = targets.reshape(-1).at[slots].get(mode="fill", fill_value=0)
    logits = KnowledgeEncoder(config).apply({"params": params}, used.reshape(-1, hidden), method="head")
    return logits.reshape(*used.shape[:2], -1), wanted


def best_tokens(
    config: ModelConfig, params: dict, states: Float[Array, "batch candidates masks hidden"]
) -> tuple[Int[Array, "batch candidates masks"], Float[Array, "batch candidates masks"]]:
    """The most probable wordpiece at every masked position, and its log-probability."""
    logits = KnowledgeEncoder(config).apply({"params": params}, states.reshape(-1, states.shape[-1]), method="head")
    logp = logits.max(-1) - jax.nn.logsumexp(logits, axis=-1)
    return logits.argmax(-1).reshape(states.shape[:-1]), logp.reshape(states.shape[:-1])
