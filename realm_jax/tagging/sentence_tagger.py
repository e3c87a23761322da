"""Applies a trained tagger to text, on all devices, many sentences at a time.

Sentences are sorted by length, so that little padding is computed; while the devices work on a batch, the host prepares
the next. Salient spans are the tagger's entities and the dates of our grammar, as with spaCy's taggers.
"""

import functools
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Float32
from tokenizers import Tokenizer

from realm_jax import parallel
from realm_jax.config import ConfigError, ModelConfig
from realm_jax.data import run_tokenizer
from realm_jax.data.assembly import SpecialIds
from realm_jax.data.length_batches import length_batches
from realm_jax.data.salient import with_dates
from realm_jax.records import Span
from realm_jax.tagging import tagger_model
from realm_jax.tagging.bio import label_set
from realm_jax.tagging.retagged_corpus import Document
from realm_jax.tagging.tagger_folder import METRIC, TaggerFolder, fingerprint
from realm_jax.tagging.words import Words, pad, split_words
from realm_jax.training.best_params import BestParams

BATCH_TOKENS = 8192
LENGTH_STEP = 8


class WordLabeller:
    """Labels the words of sentences with given parameters.

    Args:
        types: entity types, in the order of the labels' ids.
        params: the tagger's, on the host.
        tokenizer: without truncation and padding.
        transitions: what `bio.transition_scores` returns.
    """

    def __init__(
        self,
        model: ModelConfig,
        types: tuple[str, ...],
        params: dict,
        tokenizer: Tokenizer,
        transitions: Float32[np.ndarray, "labels_before labels"],
    ):
        self._labels, self._max_len = label_set(types), model.max_positions
        self._tokenizer, self._special = tokenizer, SpecialIds.from_tokenizer(tokenizer)
        self._params = parallel.replicate((params, transitions))
        self._run = _compiled(model, len(self._labels))

    def __call__(self, sentences: Sequence[str]) -> list[tuple[Words, list[str]]]:
        """The words of each sentence with their labels; words beyond the model's positions are outside of entities."""
        words = split_words(sentences, self._tokenizer)
        labels: list[list[str]] = [[] for _ in words]
        waiting: list[tuple[np.ndarray, jax.Array]] = []
        for rows, output in self._batches(words):
            waiting.append((rows, output))
            if len(waiting) > 1:
                self._read(*waiting.pop(0), words, labels)
        for rows, output in waiting:
            self._read(rows, output, words, labels)
        return list(zip(words, labels, strict=True))

    def _batches(self, words: list[Words]) -> Iterator[tuple[np.ndarray, jax.Array]]:
        """Yields (sentences of a batch, best label ids [devices, rows, tokens], which the devices still compute)."""
        lengths = np.array([len(w.ids) + 2 for w in words], np.int64)  # also of no sentence
        plan = {"batch_tokens": BATCH_TOKENS, "step": LENGTH_STEP, "most": self._max_len}
        for chosen, rows, length in length_batches(lengths, **plan, devices=parallel.num_devices()):
            batch = pad([words[i] for i in chosen], rows, length, self._special)
            yield chosen, self._run(self._params, parallel.shard(batch))

    def _read(self, rows: np.ndarray, output: jax.Array, words: list[Words], labels: list[list[str]]) -> None:
        label_ids = np.asarray(output)
        for row, ids in zip(rows, label_ids.reshape(-1, label_ids.shape[-1]), strict=False):
            labels[row] = tagger_model.word_labels(words[row], ids, self._labels)


@functools.cache  # one function, so that the next parameters find it compiled
def _compiled(model: ModelConfig, num_labels: int) -> Callable:
    def best(params_and_transitions, sentences):
        params, transitions = params_and_transitions
        logits = tagger_model.label_logits(model, num_labels, params, sentences)
        return tagger_model.best_labels(logits, sentences.is_first, transitions)

    return parallel.on_local_devices(best)


class SentenceTagger:
    """A trained tagger as a function from sentences to salient spans: a `data.salient.Tagger`.

    Args:
        name: what a corpus's manifest calls it; it contains a hash of the weights.
    """

    def __init__(self, labeller: WordLabeller, name: str):
        self._labeller, self.name = labeller, name

    @classmethod
    def open(cls, path: Any) -> "SentenceTagger":
        """The best weights of a tagger's folder. Raises ConfigError if there are none, or others than were scored."""
        folder = TaggerFolder.open(path)
        params = best_params(folder)
        name = f"bert:{fingerprint(params, folder)}"
        if name != folder.name:
            raise ConfigError(
                f"{path}: its weights are {name}, its scores are of {folder.name}: train it again with --out"
            )
        labeller = WordLabeller(
            *folder.read_model(), params, run_tokenizer.load(folder.tokenizer_file), folder.transitions
        )
        return cls(labeller, name)

    def __call__(self, sentences: list[str], title: str) -> list[list[Span]]:
        """Spans of the sentences of one document."""
        del title
        return self.spans(sentences)

    def documents(self, documents: list[Document]) -> list[list[list[Span]]]:
        """Spans of many documents at once, as `tagging.retagged_corpus` asks for them."""
        spans = iter(self.spans([sentence for sentences, _ in documents for sentence in sentences]))
        return [list(itertools.islice(spans, len(sentences))) for sentences, _ in documents]

    def spans(self, sentences: Sequence[str]) -> list[list[Span]]:
        """Sorted, disjoint spans of each sentence, in its characters; best with thousands of sentences at once."""
        labelled = zip(sentences, self._labeller(sentences), strict=True)
        return [with_dates(text, tagger_model.entities(words, labels)) for text, (words, labels) in labelled]


def best_params(folder: TaggerFolder) -> dict:
    """The parameters with the best F1 on development sentences, on the host."""
    model, types = folder.read_model()
    like = jax.eval_shape(lambda rng: tagger_model.init(model, len(label_set(types)), rng), jax.random.key(0))
    return BestParams(folder.path, METRIC).restore({"tagger": like})["tagger"]
