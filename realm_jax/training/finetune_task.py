"""Fine-tuning on questions: retriever and reader learn from answers alone (Lee et al. 2019, §4; Guu et al. 2020, §4.3).

One step: embed the questions with gradient, score the blocks that the index proposes, read the best few. Two marginal
losses: over the beam of blocks (right: it has an answer) and over all spans of the blocks that are read (right: it is
an answer). The block tower stays as the index was made, unless `train_retriever` is `both`; then the blocks that are
read are embedded afresh, with gradient, and the rest of the beam counts with the index's embeddings.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from etils import epath
from jaxtyping import Array, Float, Float32, Int, Int32, Int64, PRNGKeyArray

from realm_jax import faults, parallel, processes
from realm_jax.batches import FinetuneBatch, Tokens
from realm_jax.config import Config, ConfigError, FinetuneConfig
from realm_jax.data.pipeline import Examples
from realm_jax.data.prepare import RunData
from realm_jax.index.current import CurrentIndex, FixedIndex, common_version
from realm_jax.index.loaded_index import LoadedIndex
from realm_jax.index.own_versions import OwnVersions
from realm_jax.index.store import IndexStore
from realm_jax.losses.openqa_loss import correct_spans, marginal_loss, reader_loss
from realm_jax.models import embedder, reader
from realm_jax.models.attention import MASKED_SCORE
from realm_jax.models.sequences import packed
from realm_jax.openqa.inputs import question_tokens, reader_inputs, rows
from realm_jax.openqa.labels import AnswerFinder
from realm_jax.records import Question
from realm_jax.training import room
from realm_jax.training.best_params import BestParams
from realm_jax.training.finetune_search import search_to_use
from realm_jax.training.optimizer import MAX_GRADIENT_NORM, bert_adamw, schedule
from realm_jax.training.retrieval import RetrievalStream, RetrievalTask

log = logging.getLogger(__name__)

METRIC = "exact_match"
EVALUATIONS_IN_ALL = 10


def trainable(questions: list[Question], settings: FinetuneConfig) -> list[Question]:
    """The questions that have answers, the first `train_questions` of them.

    Raises:
        ConfigError: there is none.
    """
    found = [question for question in questions if question.answers][: settings.train_questions or None]
    if not found:
        raise ConfigError("no training question has an answer: pass --dataset=FILE.jsonl with answers")
    return found


def steps_in_all(settings: FinetuneConfig, num_questions: int) -> int:
    """Steps of a training; the last batch of the last epoch may reach into another."""
    return settings.epochs * -(-num_questions // settings.batch_size)


@dataclass(frozen=True)
class AskedQuestions:
    """Questions of a batch, before retrieval."""

    query: Tokens
    """[batch, tokens]"""
    number: Int64[np.ndarray, " batch"]
    """Which of the training questions."""
    weight: Float32[np.ndarray, " batch"]
    """0 for a padding row, which repeats a question so that a batch divides over the devices."""


class FinetuneTask(RetrievalTask):
    """Fine-tuning as a task of the loop.

    Args:
        questions: for training; those without answers are left out.
        store: index versions made with the block tower of `first_params`.
        first_params: `embedder` as two towers, and `reader`.
        exact_match: host parameters -> exact match on the development questions.
        folder: of this fine-tuning; evaluations and the best checkpoint are kept there.
        own: as in `RetrievalTask`, for `train_retriever=both`.
    """

    name = "finetune"

    def __init__(
        self,
        config: Config,
        data: RunData,
        questions: list[Question],
        store: IndexStore,
        first_params: dict,
        exact_match: Callable[[dict], float],
        folder: epath.Path,
        own: OwnVersions | None = None,
    ):
        settings = config.finetune
        super().__init__(store, settings.index_refresh_every if settings.train_retriever == "both" else 0, own)
        self._config, self._data, self._first, self._exact_match = config, data, first_params, exact_match
        self.questions = trainable(questions, settings)
        self.steps = steps_in_all(settings, len(self.questions))
        self.seed, self.log_every = config.seed, settings.log_every
        self._eval_every = settings.eval_every or max(1, self.steps // EVALUATIONS_IN_ALL)
        length = settings.question_len_tokens
        self._tokens = question_tokens(self.questions, data.tokenizer, data.special, length)
        self.finder = AnswerFinder(data.knowledge, data.tokenizer)
        self._spans = reader.spans(config.reader_len_tokens, settings.max_span_width)
        self._examples = Examples(len(self.questions), self._example, config.seed, processes.this())
        self._best = BestParams(folder, METRIC)
        cut = int(self._tokens.mask.all(-1).sum())
        padding = parallel.padded(settings.batch_size, settings.micro_batch) - settings.batch_size
        log.info(
            f"finetune: {len(self.questions):,} questions, {self.steps:,} steps of {settings.batch_size}"
            f"{f' and {padding} rows of padding' if padding else ''}; "
            f"{len(questions) - sum(bool(q.answers) for q in questions)} without answers left out, "
            f"{cut} fill or exceed {length} wordpieces"
        )

    @property
    def micro_batches(self) -> int:
        """How many parts of `finetune.micro_batch` questions a device's share is, with its padding."""
        settings = self._config.finetune
        size = parallel.padded(settings.batch_size, settings.micro_batch)
        return parallel.micro_batches(size, settings.micro_batch, "finetune.micro_batch")

    def init(self) -> dict:
        """The first weights: embedder and reader."""
        return self._first

    def optimizer(self) -> optax.GradientTransformation:
        """See `finetune_optimizer`."""
        return finetune_optimizer(self._config.finetune, self.steps)

    def loss(
        self, params: Any, batch: FinetuneBatch, rng: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Float[Array, ""], dict]:
        """See `finetune_loss`."""
        return finetune_loss(self._config, params, batch, rng)

    def stream(self, state: dict) -> RetrievalStream:
        """Questions with what the index finds for them."""
        corpus, first = self._data.knowledge, state.get("position", 0)
        self.mend_index(first)
        version = common_version(self._store)
        search = search_to_use(self._config, version)
        index: CurrentIndex | FixedIndex
        if self._config.finetune.train_retriever == "both":
            self._store.unpin(version)
            index = self.current_index(corpus, self._config, first, search)
        else:
            index = FixedIndex(self._store, version, corpus, self._config.index, search)
        packing = room.of_phase(self._config, self.name, state)
        return RetrievalStream(self.asked, self.propose, self.join, index, packing, self._config, state)

    def asked(self, batch: int) -> AskedQuestions:
        """This process's questions of a batch: a pure function of the seed and its number."""
        size = self._config.finetune.batch_size
        with_padding = parallel.padded(size, self._config.finetune.micro_batch)
        weight = (np.arange(with_padding) < size).astype(np.float32)
        return AskedQuestions(*self._examples.batch(batch, size, with_padding), processes.share(weight))

    def _example(self, number: int, rng: np.random.Generator) -> tuple[Tokens, np.ndarray]:
        del rng
        return rows(self._tokens, np.array(number)), np.array(number)

    def propose(
        self, asked: AskedQuestions, query_emb: Float[np.ndarray, "batch dim"], index: LoadedIndex
    ) -> Int32[np.ndarray, "batch beam"]:
        """The best blocks of each question, best first."""
        found, _ = index.search.search(query_emb, min(self._config.finetune.beam_blocks, len(index.embeddings)))
        return found

    def join(self, asked: AskedQuestions, beam: Int[np.ndarray, "batch beam"], index: LoadedIndex) -> FinetuneBatch:
        """Questions with their beams, labels and what the reader reads."""
        config, corpus = self._config, self._data.knowledge
        settings = config.finetune
        questions = [self.questions[number] for number in asked.number]
        beam = np.where(asked.weight[:, None] > 0, beam, -1)  # padding needs no labels
        read = beam[:, : settings.reader_blocks]
        joint, in_body = reader_inputs(asked.query, read, corpus, config.reader_len_tokens)
        blocks = None
        if settings.train_retriever == "both":
            blocks = corpus.embedder_tokens(read, corpus.block_len_tokens)
        return FinetuneBatch(
            query=asked.query,
            beam_emb=index.embeddings_of(beam),
            beam_mask=beam >= 0,
            beam_correct=self.finder.each_holds(questions, beam, settings.retriever_label),
            blocks=blocks,
            joint=joint,
            body_mask=in_body,
            correct_spans=self._correct_spans(questions, read, asked.query),
            weight=asked.weight,
        )

    def _correct_spans(self, questions: list[Question], read: np.ndarray, query: Tokens) -> np.ndarray:
        """Whether each span is an answer: bool [batch, blocks, spans]."""
        result = np.zeros((*read.shape, len(self._spans[0])), bool)
        for i, question in enumerate(questions):
            found = self.finder.spans(question, read[i], self._config.finetune.max_span_width)
            offset = int(query.mask[i].sum())
            for row in np.unique(found[:, 0]):
                places = found[found[:, 0] == row, 1:] + offset
                result[i, row] = correct_spans(*self._spans, places[:, 0], places[:, 1])
        return result

    def saves_at(self, step: int) -> bool:
        """A checkpoint is due at evaluations, and where the index is due."""
        return step % self._eval_every == 0 or self.refreshes_index_at(step)

    def evaluates_at(self, step: int) -> bool:
        """An evaluation is due every so many steps, and after the last one."""
        return step % self._eval_every == 0 or step == self.steps

    def evaluate(self, step: int, params: Any) -> dict[str, float]:
        """Exact match on the development questions; keeps the parameters if none before were as good."""
        host = jax.device_get(parallel.unreplicate(params))
        faults.point("dev questions")
        exact_match = self._exact_match(host)
        self._best.add(step, host, exact_match)
        return {"dev_exact_match": exact_match}

    def is_over(self, step: int) -> bool:
        """Whether the last `patience` evaluations brought no better score."""
        patience = self._config.finetune.patience
        past = [e[METRIC] for e in self._best.past if e["step"] <= step]
        return bool(patience) and len(past) > patience and int(np.argmax(past)) < len(past) - patience


def finetune_optimizer(settings: FinetuneConfig, steps: int) -> optax.GradientTransformation:
    """BERT's AdamW, with the retriever's own rate; frozen towers stay as they are."""
    trained = {"none": (), "query": ("query",), "both": ("query", "block")}[settings.train_retriever]

    def owner(params):
        towers = {side: "retriever" if side in trained else "frozen" for side in params["embedder"]}
        return {"embedder": towers, "reader": "reader"}

    own = settings.retriever_learning_rate
    rates = {"reader": settings.learning_rate, "retriever": settings.learning_rate if own is None else own}
    updates = {name: bert_adamw(schedule(rate, steps)) for name, rate in rates.items()}
    return optax.chain(
        optax.clip_by_global_norm(MAX_GRADIENT_NORM),
        optax.multi_transform({**updates, "frozen": optax.set_to_zero()}, owner),
    )


def finetune_loss(
    config: Config, params: Any, batch: FinetuneBatch, rng: PRNGKeyArray | None
) -> tuple[Float[Array, ""], Float[Array, ""], dict]:
    """(sum, questions, metrics) of retriever loss plus reader loss over one device's questions (Lee et al. 2019, §4).

    A question gives no retriever loss where no block of the beam is right, no reader loss where no span is; a row of
    padding counts for nothing.
    """
    model, settings = config.model, config.finetune
    rngs = [None] * 3 if not model.dropout or rng is None else list(jax.random.split(rng, 3))
    query_emb = embedder.embed(model, params["embedder"], "query", batch.query, rngs[0])
    if settings.train_retriever == "none":
        query_emb = jax.lax.stop_gradient(query_emb)
    beam_scores = embedder.retrieval_scores(query_emb, batch.beam_emb)
    read = batch.body_mask.shape[1]
    if settings.train_retriever == "both":
        block_emb = embedder.embed(model, params["embedder"], "block", batch.blocks, rngs[1])
        fresh = embedder.retrieval_scores(query_emb, block_emb.reshape(len(query_emb), read, -1))
        beam_scores = jnp.concatenate([fresh, beam_scores[:, read:]], axis=1)
    beam_scores = jnp.where(batch.beam_mask, beam_scores, MASKED_SCORE)
    retriever = marginal_loss(beam_scores, batch.beam_correct) * batch.weight
    scores = reader.span_scores(model, params["reader"], batch.joint, batch.body_mask, settings.max_span_width, rngs[2])
    spans = reader_loss(scores, beam_scores[:, :read], batch.correct_spans) * batch.weight
    flat = (scores + beam_scores[:, :read, None]).reshape(len(spans), -1)
    hit = jnp.take_along_axis(batch.correct_spans.reshape(len(spans), -1), flat.argmax(-1)[:, None], 1)
    count, lengths = batch.weight.sum(), packed(batch.joint).lengths.reshape(len(spans), read)
    in_beam = (batch.beam_correct.any(-1) * batch.weight).sum()
    in_read = (batch.correct_spans.any((-1, -2)) * batch.weight).sum()
    metrics = {
        "retriever_loss": (retriever.sum(), in_beam),
        "reader_loss": (spans.sum(), in_read),
        "accuracy": ((hit[:, 0] * batch.weight).sum(), count),
        "answer_in_beam": (in_beam, count),
        "answer_in_read": (in_read, count),
        "tokens": ((lengths.sum(-1) * batch.weight).sum(), 1.0),
    }
    return (retriever + spans).sum(), count, metrics
