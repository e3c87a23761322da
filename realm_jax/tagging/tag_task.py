"""Trains a BERT to label words as entities: cross-entropy at the first wordpiece of each word (Devlin et al., §5.3)."""

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, PRNGKeyArray
from tokenizers import Tokenizer

from realm_jax import parallel, processes
from realm_jax.batches import TaggerBatch
from realm_jax.config import ModelConfig
from realm_jax.data.assembly import SpecialIds
from realm_jax.data.pipeline import Batches, Examples
from realm_jax.tagging import tagger_model
from realm_jax.tagging.bio import OUTSIDE, chunks, iob1, label_set, transition_scores
from realm_jax.tagging.conll import LabelledSentence
from realm_jax.tagging.entities import EntityScores, score_labels
from realm_jax.tagging.sentence_tagger import WordLabeller
from realm_jax.tagging.tagger_folder import METRIC, TagConfig
from realm_jax.tagging.words import Words, pad, split_words
from realm_jax.training.best_params import BestParams
from realm_jax.training.loop import Task
from realm_jax.training.optimizer import MAX_GRADIENT_NORM, bert_adamw, schedule

log = logging.getLogger(__name__)

LENGTH_STEP = 32


class TagTask(Task):
    """Tagging as a task of the loop.

    Args:
        types: entity types, in the order of the labels' ids.
        tokenizer: without truncation and padding.
        first_params: the parameters that training starts from, on the host.
        best: keeps the parameters with the best F1 on `dev`, which is computed once an epoch.
    """

    name = "tag"

    def __init__(
        self,
        config: TagConfig,
        model: ModelConfig,
        types: tuple[str, ...],
        tokenizer: Tokenizer,
        train: Sequence[LabelledSentence],
        dev: Sequence[LabelledSentence],
        first_params: dict,
        best: BestParams,
    ):
        parallel.check_batch_size(config.batch_size, "batch_size")
        self._config, self._model, self._types, self._tokenizer = config, model, types, tokenizer
        self._dev, self._first, self._best = dev, first_params, best
        self._labels = label_set(types)
        self._special = SpecialIds.from_tokenizer(tokenizer)
        self._max_len = min(config.max_len_tokens, model.max_positions)
        self._words = split_words([sentence.text for sentence in train], tokenizer)
        self._word_labels = [
            _label_ids(sentence, words, self._labels) for sentence, words in zip(train, self._words, strict=True)
        ]
        self.transitions = transition_scores(self._word_labels, len(self._labels))
        self._steps_an_epoch = -(-len(train) // config.batch_size)
        self.steps, self.seed, self.log_every = config.epochs * self._steps_an_epoch, config.seed, config.log_every
        cut = sum(len(words.ids) + 2 > self._max_len for words in self._words)
        log.info(
            f"tag: {len(train):,} sentences, {self.steps:,} steps of {config.batch_size}; types {', '.join(types)}; "
            f"{cut} exceed {self._max_len} wordpieces"
        )

    def init(self) -> dict:
        """The tagger alone."""
        return {"tagger": self._first}

    def optimizer(self) -> optax.GradientTransformation:
        """BERT's AdamW, after clipping."""
        rate = schedule(self._config.learning_rate, self.steps)
        return optax.chain(optax.clip_by_global_norm(MAX_GRADIENT_NORM), bert_adamw(rate))

    def loss(
        self, params: Any, batch: TaggerBatch, rng: PRNGKeyArray
    ) -> tuple[Float[Array, ""], Float[Array, ""], dict]:
        """Cross-entropy of the words' labels, summed; the number of words; and how many labels are right."""
        dropout_rng = rng if self._model.dropout else None
        logits = tagger_model.label_logits(self._model, len(self._labels), params["tagger"], batch.input, dropout_rng)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch.labels)
        weights = batch.input.is_first.astype(jnp.float32)
        count = weights.sum()
        right = ((logits.argmax(-1) == batch.labels) * weights).sum()
        tokens = batch.input.tokens.mask.sum().astype(jnp.float32)
        return (losses * weights).sum(), count, {"accuracy": (right, count), "tokens": (tokens, 1.0)}

    def stream(self, state: dict) -> Batches:
        """Sentences in a shuffled order, padded to the longest of their batch."""
        examples = Examples(len(self._words), self._example, self.seed)
        size, process = self._config.batch_size, processes.this()
        share = slice(process.index * size // process.count, (process.index + 1) * size // process.count)

        def make(number: int) -> TaggerBatch:
            chosen, seeds = examples.batch(number, size)  # of all processes: their batches must have one length
            longest = max(len(self._words[i].ids) + 2 for i in chosen)
            length = min(self._max_len, -(-longest // LENGTH_STEP) * LENGTH_STEP)
            return parallel.shard(self._batch(chosen[share], seeds[share], length))

        return Batches(make, state)

    def _example(self, number: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Returns (sentence, seed of its hidden words)."""
        return np.array(number), np.array(rng.integers(1 << 32))

    def _batch(self, chosen: np.ndarray, seeds: np.ndarray, length: int) -> TaggerBatch:
        labels = np.zeros((len(chosen), length), np.int32)
        for row, i in enumerate(chosen):
            at = 1 + np.array(self._words[i].firsts, np.int64)
            seen = at < length - 1
            labels[row, at[seen]] = self._word_labels[i][seen]
        sentences = [self._hide(self._words[i], int(seed)) for i, seed in zip(chosen, seeds, strict=True)]
        return TaggerBatch(pad(sentences, len(chosen), length, self._special), labels)

    def _hide(self, words: Words, seed: int) -> Words:
        """A sentence with some of its words replaced by [MASK]; their casings stay."""
        hidden = np.random.default_rng(seed).random(len(words.firsts)) < self._config.word_dropout
        of_piece = np.repeat(hidden, np.diff([*words.firsts, len(words.ids)]))
        return dataclasses.replace(words, ids=np.where(of_piece, self._special.mask, words.ids).tolist())

    def saves_at(self, step: int) -> bool:
        """After every epoch."""
        return step % self._steps_an_epoch == 0

    def evaluates_at(self, step: int) -> bool:
        """After every epoch."""
        return self.saves_at(step)

    def evaluate(self, step: int, params: Any) -> dict[str, float]:
        """F1 on the development sentences; keeps the parameters with the best."""
        host = jax.device_get(parallel.unreplicate(params))
        f1 = self.scores(host["tagger"], self._dev).overall.f1
        self._best.add(step, host, f1)
        return {METRIC: f1}

    def scores(self, params: dict, sentences: Sequence[LabelledSentence]) -> EntityScores:
        """Entity scores of host parameters on labelled sentences."""
        return score(WordLabeller(self._model, self._types, params, self._tokenizer, self.transitions), sentences)


def score(labeller: WordLabeller, sentences: Sequence[LabelledSentence]) -> EntityScores:
    """Entity scores on the words of a labelled set.

    The set may split words otherwise: each of its words gets the label of our word that begins where it begins.
    """
    predicted = []
    for sentence, (words, labels) in zip(sentences, labeller([s.text for s in sentences]), strict=True):
        by_start = dict(zip(words.starts, labels, strict=True))
        predicted.append([by_start.get(start, OUTSIDE) for start, _ in sentence.places])
    return score_labels([sentence.labels for sentence in sentences], predicted)


def _label_ids(sentence: LabelledSentence, words: Words, labels: list[str]) -> np.ndarray:
    """int32 [words]: labels of our words; where a word of the set is several of ours, its entity covers them all."""
    owner = np.searchsorted([start for start, _ in sentence.places], words.starts, side="right") - 1
    spans = [
        (*(int(np.searchsorted(owner, i)) for i in (start, limit)), kind)
        for start, limit, kind in chunks(sentence.labels)
    ]
    spelled = iob1(len(words.starts), [(start, limit, kind) for start, limit, kind in spans if start < limit])
    return np.array([labels.index(label) for label in spelled], np.int32)
