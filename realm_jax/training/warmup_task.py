"""Encoder warm-up: a small encoder learns to read blocks before REALM lets it judge them.

The marginal loss with a single candidate, another block of the query's own article, or the null block for a share of
the queries (so that the null block's predictions do not rot). A cold encoder finds no use in any block, and its first
gradients then take the retriever apart. BERT-base, pre-trained on sentence pairs, does without.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from realm_jax import hosts, parallel
from realm_jax.config import Config
from realm_jax.data.pipeline import Batches, Examples, MaskedSentences, contains, joint_tokens, mask_slots
from realm_jax.data.prepare import RunData
from realm_jax.losses.marginal import token_marginal
from realm_jax.models import knowledge_encoder
from realm_jax.training.loop import Task
from realm_jax.training.optimizer import MAX_GRADIENT_NORM, bert_adamw, schedule
from realm_jax.types import ReadingBatch, Tokens

NULL_RATE = 0.2
EXTRA_MASK_RATE = 0.12  # of the wordpieces outside the span: more to learn from a step


class WarmupTask(Task):
    """Trains the encoder alone."""

    name = "warmup"

    def __init__(self, config: Config, data: RunData, first_params: dict):
        parallel.check_batch_size(config.pretrain.encoder_warmup_batch_size, "pretrain.encoder_warmup_batch_size")
        self._config, self._data, self._first = config, data, first_params
        self.steps, self.seed = config.pretrain.encoder_warmup_steps, config.seed
        self.log_every = config.pretrain.log_every
        policy = dataclasses.replace(config.pretrain, masking="salient", answer_elsewhere=False)
        self._sentences = MaskedSentences(
            data.text,
            data.special,
            policy,
            config.corpus.heldout_fraction,
            answer_in_sibling=True,
            extra_mask_rate=EXTRA_MASK_RATE,
        )

    def init(self) -> dict:
        """The encoder alone."""
        return {"encoder": self._first["encoder"]}

    def optimizer(self) -> optax.GradientTransformation:
        """BERT's AdamW, after clipping."""
        rate = schedule(self._config.pretrain.encoder_warmup_learning_rate, self.steps)
        return optax.chain(optax.clip_by_global_norm(MAX_GRADIENT_NORM), bert_adamw(rate))

    def loss(self, params: Any, batch: ReadingBatch, rng: jax.Array) -> tuple[jax.Array, jax.Array, dict]:
        """The marginal loss over one candidate: the masked-token loss."""
        model = self._config.model
        joint = jax.tree.map(lambda x: x[:, None], batch.joint)
        dropout_rng = rng if model.dropout else None
        states = knowledge_encoder.candidate_states(model, params["encoder"], joint, batch.mask_positions, dropout_rng)
        logp, best = knowledge_encoder.token_logp(
            model, params["encoder"], states, batch.mask_targets, batch.mask_slots
        )
        total, count = token_marginal(jnp.zeros(logp.shape[:2]), logp, batch.mask_weights)
        accuracy = ((best[:, 0] * batch.mask_weights).sum(), count)
        return total, count, {"accuracy": accuracy, "tokens": (batch.joint.mask.sum().astype(jnp.float32), 1.0)}

    def stream(self, state: dict) -> Batches:
        """Masked sentences, each joined with its block."""
        examples = Examples(len(self._sentences), self._example, self.seed, hosts.this())
        size = self._config.pretrain.encoder_warmup_batch_size

        def make(number: int) -> ReadingBatch:
            queries, blocks = examples.batch(number, size)
            knowledge = self._data.text.embedder_tokens(blocks[:, None], self._config.corpus.block_len_tokens)
            joint = joint_tokens(queries.query, knowledge, self._config.joint_len_tokens)
            slots = mask_slots(queries.mask_weights, parallel.num_devices(), every_slot=hosts.are_many())
            return parallel.shard(
                ReadingBatch(
                    joint=Tokens(joint.ids[:, 0], joint.mask[:, 0], joint.types[:, 0]),
                    mask_positions=queries.mask_positions,
                    mask_targets=queries.mask_targets,
                    mask_weights=queries.mask_weights,
                    mask_slots=slots,
                )
            )

        return Batches(make, state)

    def _example(self, number: int, rng: np.random.Generator) -> tuple:
        """A query, and the block to read: another one of its article that has the answer, or the null block."""
        query = self._sentences.example(number, rng)
        others = [i for i in self._data.text.siblings(int(query.source_block)) if i != query.source_block]
        if not others or rng.random() < NULL_RATE:
            return query, np.int64(-1)
        answer = self._sentences.answer(number)
        holders = [i for i in others if contains(self._data.text.body(int(i)), answer)]
        return query, np.int64(rng.choice(holders or others))

    def saves_at(self, step: int) -> bool:
        """At checkpoints."""
        return step % self._config.pretrain.checkpoint_every == 0
