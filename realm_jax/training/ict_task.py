"""The inverse cloze task: trains the embedder so that a sentence finds its block (Lee et al. 2019; §3.4)."""

import functools
import logging
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from realm_jax import parallel, processes
from realm_jax.batches import IctBatch
from realm_jax.config import Config, IctConfig
from realm_jax.console import tally
from realm_jax.data.ict_examples import IctExamples
from realm_jax.data.pipeline import Examples
from realm_jax.data.prepare import RunData
from realm_jax.losses.ict_loss import in_batch_softmax, null_softmax
from realm_jax.models import embedder
from realm_jax.training import room
from realm_jax.training.loop import Task
from realm_jax.training.optimizer import MAX_GRADIENT_NORM, bert_adamw, schedule
from realm_jax.training.room import PackedBatches

log = logging.getLogger(__name__)


class IctTask(Task):
    """ICT with the blocks of all devices as negatives."""

    name = "ict"

    def __init__(self, config: Config, data: RunData, first_params: dict):
        parallel.check_batch_size(config.ict.batch_size, "ict.batch_size")
        parallel.micro_batches(config.ict.batch_size, config.ict.micro_batch, "ict.micro_batch")
        self._config, self._first = config, first_params
        self.steps, self.seed, self.log_every = config.ict.steps, config.seed, config.ict.log_every
        self._examples = IctExamples(
            data.text,
            data.special,
            config.corpus.heldout_fraction,
            config.ict.query_len_tokens,
            config.ict.sentence_removal_rate,
        )
        log.info(f"ict: {len(self._examples):,} blocks; skipped {tally(self._examples.skipped)}")

    def init(self) -> dict:
        """The embedder alone."""
        return {"embedder": self._first["embedder"]}

    def optimizer(self) -> optax.GradientTransformation:
        """See `ict_optimizer`."""
        return ict_optimizer(self._config.ict)

    def loss(self, params: Any, batch: IctBatch, rng: PRNGKeyArray) -> tuple[Float[Array, ""], Float[Array, ""], dict]:
        """See `ict_loss`."""
        return ict_loss(self._config, params, batch, rng)

    def stream(self, state: dict) -> PackedBatches:
        """Sentences with their blocks; a pure function of seed and position."""
        examples = Examples(len(self._examples), self._examples.example, self.seed, processes.this())
        size = self._config.ict.batch_size
        packing = room.of_phase(self._config, self.name, state)
        return PackedBatches(lambda number: examples.batch(number, size), packing, state)

    def saves_at(self, step: int) -> bool:
        """Every `ict.checkpoint_every` steps."""
        return step % self._config.ict.checkpoint_every == 0


def ict_optimizer(settings: IctConfig) -> optax.GradientTransformation:
    """BERT's AdamW, after clipping."""
    rate = schedule(settings.learning_rate, settings.steps)
    return optax.chain(optax.clip_by_global_norm(MAX_GRADIENT_NORM), bert_adamw(rate))


def ict_loss(
    config: Config, params: Any, batch: IctBatch, rng: PRNGKeyArray | None
) -> tuple[Float[Array, ""], Float[Array, ""], dict]:
    """(sum, count, metrics) over one device's sentences. For use inside a function that `parallel` maps.

    A softmax over the blocks of all devices has no parts whose gradients could be added up, as pre-training's loss has:
    with `ict.micro_batch`, it is the embedding that goes by parts (`models.chunks`), into which the batch is packed.
    """
    query_rng, block_rng = (None, None) if not config.model.dropout or rng is None else jax.random.split(rng)
    embed = functools.partial(embedder.embed, config.model, params["embedder"])
    query_emb, block_emb = embed("query", batch.query, query_rng), embed("block", batch.block, block_rng)
    tokens = (batch.query.mask.sum() + batch.block.mask.sum()).astype(jnp.float32)
    first_label = parallel.device_index() * query_emb.shape[0]
    all_block_emb, all_weight = parallel.all_gather(block_emb), parallel.all_gather(batch.weight)
    if not config.ict.null_weight:
        total, count, first = in_batch_softmax(query_emb, all_block_emb, first_label, batch.weight, all_weight)
        return total, count, {"accuracy": (first, count), "tokens": (tokens, 1.0)}
    null_emb = embed("block", embedder.null_block(batch.query))[0]
    arguments = (query_emb, all_block_emb, first_label, batch.weight, all_weight, null_emb)
    total, count, first = in_batch_softmax(*arguments)
    null_total = null_softmax(*arguments)
    metrics = {"accuracy": (first, count), "null_loss": (null_total, count), "tokens": (tokens, 1.0)}
    return total + config.ict.null_weight * null_total, count, metrics
