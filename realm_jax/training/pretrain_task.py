"""REALM pre-training: retriever and encoder learn together from masked spans (Guu et al. 2020, §3.2-3.4).

One step: embed queries and candidates with gradient, softmax of the inner products = p(z|x), read every candidate with
the query = p(y|z,x), marginal loss, update. Candidates come from the stream (`retrieval.py`).
"""

import logging
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray

from realm_jax import parallel, processes
from realm_jax.batches import MaskedQueries, PretrainBatch
from realm_jax.config import Config, PretrainConfig
from realm_jax.data.assembly import with_candidates
from realm_jax.data.pipeline import Examples, MaskedSentences
from realm_jax.data.prepare import RunData
from realm_jax.index.answer_block import with_answer
from realm_jax.index.loaded_index import LoadedIndex
from realm_jax.index.own_versions import OwnVersions
from realm_jax.index.source_block import drop_source
from realm_jax.index.store import IndexStore
from realm_jax.losses import marginal
from realm_jax.models import realm
from realm_jax.training import room
from realm_jax.training.optimizer import joint, retriever_optimizer
from realm_jax.training.retrieval import RetrievalStream, RetrievalTask

log = logging.getLogger(__name__)


class PretrainTask(RetrievalTask):
    """Pre-training as a task of the loop.

    Args:
        store, own: as in `RetrievalTask`.
        first_params: embedder and encoder, on the host.
    """

    name = "pretrain"

    def __init__(
        self,
        config: Config,
        data: RunData,
        store: IndexStore,
        first_params: dict,
        own: OwnVersions | None = None,
    ):
        parallel.check_batch_size(config.pretrain.batch_size, "pretrain.batch_size")
        super().__init__(store, config.pretrain.index_refresh_every, own)
        self._config, self._data, self._first = config, data, first_params
        self._shares = parallel.num_devices() * self.micro_batches  # checks the latter
        self.steps, self.seed, self.log_every = config.pretrain.steps, config.seed, config.pretrain.log_every
        self._sentences = processes.first_then(self._masked_sentences, self._masked_sentences)
        log.info(f"pretrain: {self._sentences.summary()}")

    def _masked_sentences(self) -> MaskedSentences:
        config, data = self._config, self._data
        fraction = config.corpus.heldout_fraction
        return MaskedSentences(data.text, data.special, config.pretrain, fraction, kept=data.examples)

    @property
    def micro_batches(self) -> int:
        """How many parts of `pretrain.micro_batch` queries a device's share is."""
        settings = self._config.pretrain
        return parallel.micro_batches(settings.batch_size, settings.micro_batch, "pretrain.micro_batch")

    def init(self) -> dict:
        """The first weights: embedder and encoder."""
        return self._first

    def optimizer(self) -> optax.GradientTransformation:
        """See `realm_optimizer`."""
        return realm_optimizer(self._config.pretrain)

    def loss(
        self, params: Any, batch: PretrainBatch, rng: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Float[Array, ""], dict]:
        """See `realm_loss`."""
        return realm_loss(self._config, params, batch, rng)

    def stream(self, state: dict) -> RetrievalStream:
        """Masked sentences with what the newest index version finds for them."""
        examples = Examples(len(self._sentences), self._sentences.example, self.seed, processes.this())
        size = self._config.pretrain.batch_size
        first = state.get("position", 0)
        self.mend_index(first)
        index = self.current_index(self._data.knowledge, self._config, first)
        return RetrievalStream(
            lambda number: examples.batch(number, size),
            self._propose,
            self._join,
            index,
            room.of_phase(self._config, self.name, state),
            self._config,
            state,
        )

    def _propose(self, queries: MaskedQueries, query_emb: np.ndarray, index: LoadedIndex) -> np.ndarray:
        settings, knowledge = self._config.pretrain, self._data.knowledge
        count = settings.num_candidates - 1
        found, _ = index.search.search(query_emb, max(count + 1, settings.answer_depth))
        if settings.ban_source_block:
            found = drop_source(found, queries.source_hash, knowledge)
        return with_answer(found, count, queries, knowledge) if settings.answer_depth else found[:, :count]

    def _join(self, queries: MaskedQueries, candidates: np.ndarray, index: LoadedIndex) -> PretrainBatch:
        del index
        return with_candidates(queries, candidates, self._data.knowledge, self._shares)

    def saves_at(self, step: int) -> bool:
        """A checkpoint is due every `pretrain.checkpoint_every` steps, and where the index is due."""
        return step % self._config.pretrain.checkpoint_every == 0 or self.refreshes_index_at(step)


def realm_optimizer(settings: PretrainConfig) -> optax.GradientTransformation:
    """BERT's AdamW, with the retriever's own rate, period and start."""
    retriever = retriever_optimizer(
        settings.learning_rate if settings.retriever_learning_rate is None else settings.retriever_learning_rate,
        settings.steps,
        update_every=settings.retriever_update_every,
        off_steps=settings.retriever_warmup_steps,
        train=settings.train_retriever,
    )
    return joint(settings.learning_rate, retriever, settings.steps)


def realm_loss(
    config: Config, params: Any, batch: PretrainBatch, rng: PRNGKeyArray | None
) -> tuple[Float[Array, ""], Float[Array, ""], dict]:
    """(sum, count, metrics) of the marginal loss over one device's queries; no dropout without `rng`.

    Without the null block, a query that has no candidate counts in `without_candidates` alone.
    """
    read = realm.forward(config, params, batch, rng)
    prior, logp = read.prior, read.logp
    counts = realm.candidates_of(config, batch).any(-1)
    weights = batch.mask_weights * counts[:, None]
    form = marginal.token_marginal if config.pretrain.marginal == "token" else marginal.sequence_marginal
    total, count = form(prior, logp, weights)
    prior_p, predictions, queries = jnp.exp(prior), weights.sum(), counts.sum().astype(jnp.float32)
    metrics = {
        # Expected over p(z|x): the marginal's own argmax would need all candidates' full distributions.
        "accuracy": ((jnp.einsum("bk,bkm->bm", prior_p, read.hits.astype(jnp.float32)) * weights).sum(), predictions),
        "null_accuracy": ((read.hits[:, 0] * weights).sum(), predictions),
        "null_loss": (-(logp[:, 0] * weights).sum(), predictions),
        "utility": marginal.retrieval_utility(prior, logp, weights),
        "null_share": ((prior_p[:, 0] * counts).sum(), queries),
        "top_share": ((prior_p.max(-1) * counts).sum(), queries),
        "tokens": ((batch.joint.mask.sum() + batch.null_joint.mask.sum()).astype(jnp.float32), 1.0),
    }
    if not config.pretrain.null_block:
        metrics["without_candidates"] = ((~counts).sum().astype(jnp.float32), jnp.float32(len(counts)))
    return total, count, metrics
