"""Answers questions: finds blocks, reads them, and takes the best span of all (Lee et al. 2019, §3).

A span's score is the reader's plus the retrieval score of its block; both come from fresh weights, the blocks'
embeddings from the index. Nothing is sampled or approximated: the search is exact.
"""

import functools
import logging
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from realm_jax import parallel
from realm_jax.batches import Tokens
from realm_jax.config import Config, ModelConfig
from realm_jax.data.prepare import RunData
from realm_jax.index.loaded_index import LoadedIndex
from realm_jax.models import reader
from realm_jax.models.attention import MASKED_SCORE
from realm_jax.openqa.inputs import reader_inputs, rows, span_of_text
from realm_jax.openqa.labels import AnswerFinder
from realm_jax.openqa.retriever import Retriever
from realm_jax.progress import Progress
from realm_jax.records import Prediction, Question
from realm_jax.scores.answers import is_correct

log = logging.getLogger(__name__)

LENGTH_STEP = 32  # reader inputs are padded to a multiple: one compiled program each
BATCH_TOKENS = 16384


class BestSpans(NamedTuple):
    """The best span of each question in each of its blocks, [questions, blocks]; scores are -inf where none is read."""

    score: Float[np.ndarray, "questions blocks"]
    first: Int[np.ndarray, "questions blocks"]
    """First wordpiece in the body."""
    last: Int[np.ndarray, "questions blocks"]
    mass: Float[np.ndarray, "questions blocks"]
    """Log-sum of exp of the scores of all spans of the block."""

    def of(self, question: int) -> "BestSpans":
        """The spans of one question, [blocks]."""
        return BestSpans(*(part[question] for part in self))

    def probability(self, rank: int) -> float:
        """Probability, for one question, of a block's best span among all spans of all blocks that were read."""
        total = np.logaddexp.reduce(self.mass[np.isfinite(self.mass)])
        return float(np.exp(self.score[rank] - total))


class Answerer:
    """A fine-tuned model over one index.

    Args:
        params: `embedder` and `reader`, on the host.
        pairs: how many pairs of question and block are read at once, all padded to the greatest length, so that
            nothing is compiled after the first batch; 0 reads many pairs of similar length at once.
    """

    def __init__(self, config: Config, data: RunData, params: dict, index: LoadedIndex, *, pairs: int = 0):
        self.config, self.data, self._pairs = config, data, pairs
        length = config.finetune.question_len_tokens
        self.retriever = Retriever(config, data, params["embedder"], index, length)
        self._reader = parallel.replicate(params["reader"])
        self._read = span_reader(config.model, config.finetune.max_span_width)
        self.finder = AnswerFinder(data.knowledge, data.tokenizer)
        self._bad_patterns: set[str] = set()

    def answer_ranks(
        self, questions: Sequence[Question], candidates: Int[np.ndarray, "questions depth"]
    ) -> Int[np.ndarray, " questions"]:
        """Rank of the first of each question's blocks that has an answer, -1 where none has."""
        holds = self.finder.each_holds(questions, candidates, "wordpieces")
        return np.where(holds.any(-1), holds.argmax(-1), -1)

    def answer(
        self,
        questions: Sequence[Question],
        *,
        num_blocks: int,
        candidates: Int[np.ndarray, "questions depth"] | None = None,
        depth: int = 100,
        name: str = "",
    ) -> list[Prediction]:
        """Reads the first `num_blocks` of each question's blocks.

        Args:
            candidates: blocks to read instead of what the retriever finds.
            depth: how far down an answer is looked for when blocks are retrieved.
            name: shown with the progress; an empty name shows none.
        """
        tokens, query_emb = self.retriever.encode(questions)
        if candidates is None:
            candidates, _ = self.retriever.search(query_emb, max(depth, num_blocks))
        read = candidates[:, :num_blocks]
        retrieval = self.retriever.scores(query_emb, read)
        best = self.read(tokens, read, retrieval, name)
        ranks = self.answer_ranks(questions, candidates)
        predictions = [
            self._prediction(question, int(ranks[i]), read[i], retrieval[i], best.of(i))
            for i, question in enumerate(questions)
        ]
        if name and self._bad_patterns:
            bad = sorted(self._bad_patterns)
            log.info(f"{name}: {len(bad)} expressions cannot be matched and count as wrong: {'; '.join(bad[:3])}")
        return predictions

    def read(
        self,
        query: Tokens,
        blocks: Int[np.ndarray, "questions blocks"],
        retrieval: Float[np.ndarray, "questions blocks"],
        name: str = "",
    ) -> BestSpans:
        """Reads each question [questions, tokens] with each of its blocks; none where the block is -1.

        Args:
            retrieval: retrieval scores of the blocks, which are added to the score of every span.
            name: shown with the progress; an empty name shows none.
        """
        corpus = self.data.knowledge
        question, column = np.nonzero(blocks >= 0)
        pairs = blocks[question, column]
        lengths = query.mask.sum(-1)[question] + corpus.lengths[pairs]  # with the title: a little more than is needed
        order = np.argsort(lengths, kind="stable")
        shape = blocks.shape
        score, mass = np.full(shape, -np.inf, np.float32), np.full(shape, -np.inf, np.float32)
        first, last = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
        progress = Progress(f"{name}: reading blocks") if name else lambda done, total: None
        done = 0
        while done < len(order):
            size = self._batch_size(int(lengths[order[done]]))
            chosen = order[done : done + size]
            length = self._padded(int(lengths[chosen].max()))
            padded = np.concatenate([chosen, np.full(size - len(chosen), chosen[-1])])
            q, c = question[padded], column[padded]
            joint, mask = reader_inputs(rows(query, q), blocks[q, c][:, None], corpus, length)
            scores = retrieval[q, c].astype(np.float32)[:, None]
            out = jax.device_get(self._read(self._reader, *parallel.shard((joint, mask, scores))))
            out = [x.reshape(-1)[: len(chosen)] for x in out]
            at = question[chosen], column[chosen]
            offset = query.mask.sum(-1)[question[chosen]]
            score[at], mass[at] = out[0], out[3]
            first[at], last[at] = out[1] - offset, out[2] - offset
            done += len(chosen)
            progress(done, len(order))
        return BestSpans(score, first, last, mass)

    def _batch_size(self, length: int) -> int:
        devices = parallel.num_devices()
        if self._pairs:
            return -(-self._pairs // devices) * devices
        return max(1, BATCH_TOKENS // self._padded(length) // devices) * devices

    def _padded(self, length: int) -> int:
        if self._pairs:
            return self.config.reader_len_tokens
        return min(self.config.reader_len_tokens, -(-length // LENGTH_STEP) * LENGTH_STEP)

    def span(self, block: int, first: int, last: int) -> tuple[int, int]:
        """Characters [start, limit) of a block's text that the wordpieces first..last of its body stand for."""
        return span_of_text(self.data.knowledge, self.data.tokenizer, block, first, last)

    def _prediction(self, question, answer_rank, read, retrieval, best: BestSpans) -> Prediction:
        spans = self.finder.spans(question, read, self.config.finetune.max_span_width)
        found = {
            "question": question,
            "oracle": len(spans) > 0,
            "blocks": tuple(int(block) for block in read if block >= 0),
            "retrieval_scores": tuple(float(s) for s, block in zip(retrieval, read, strict=True) if block >= 0),
            "answer_rank": answer_rank,
        }
        if not np.isfinite(best.score).any():
            return Prediction(answer="", is_correct=False, **found)
        rank = int(np.argmax(best.score))
        block = int(read[rank])
        start, limit = self.span(block, int(best.first[rank]), int(best.last[rank]))
        answer = self.data.knowledge.block(block).text[start:limit]
        return Prediction(
            answer=answer,
            is_correct=is_correct(question, answer, self._bad_patterns),
            probability=best.probability(rank),
            block_rank=rank,
            span=(start, limit),
            **found,
        )


@functools.cache  # one function, so that the next evaluation finds it compiled
def span_reader(model: ModelConfig, max_width: int) -> Callable:
    """The best span of each pair of question and block: compiled `_best_span` of (reader, *sharded inputs)."""
    return parallel.on_local_devices(functools.partial(_best_span, model, max_width))


def _best_span(model: ModelConfig, max_width: int, params: dict, joint: Tokens, mask, retrieval) -> tuple:
    """(score, first, last, log-sum) of one device's pairs, each [pairs, 1]; positions are in the joint sequence."""
    starts, ends = (jnp.asarray(x) for x in reader.spans(joint.ids.shape[-1], max_width))
    scores = reader.span_scores(model, params, joint, mask, max_width)
    scores = jnp.where(scores > MASKED_SCORE / 2, scores + retrieval[..., None], -jnp.inf)
    best = scores.argmax(-1)
    return scores.max(-1), starts[best], ends[best], jax.nn.logsumexp(scores, axis=-1)
