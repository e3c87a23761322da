"""Answers questions: finds blocks, reads them, and takes the best span of all (Lee et al. 2019, §3).

A span's score is the reader's plus the retrieval score of its block; both come from fresh weights, the blocks'
embeddings from the index. Nothing is sampled or approximated: the search is exact.
"""

import functools
import logging
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from realm_jax import parallel
from realm_jax.batches import Tokens
from realm_jax.config import Config, ModelConfig
from realm_jax.data.prepare import RunData
from realm_jax.index.embed_blocks import TowerEmbedder
from realm_jax.index.loaded_index import LoadedIndex
from realm_jax.index.probe import embed_queries
from realm_jax.models import reader
from realm_jax.models.bert import MASKED_SCORE
from realm_jax.openqa.inputs import question_tokens, reader_inputs, rows, span_of_text
from realm_jax.openqa.labels import AnswerFinder
from realm_jax.progress import Progress
from realm_jax.records import Prediction, Question
from realm_jax.scores.answers import is_correct

log = logging.getLogger(__name__)

SEARCH_BATCH = 512
LENGTH_STEP = 32  # reader inputs are padded to a multiple: one compiled program each
BATCH_TOKENS = 16384


class Answerer:
    """A fine-tuned model over one index.

    Args:
        params: `embedder` and `reader`, on the host.
    """

    def __init__(self, config: Config, data: RunData, params: dict, index: LoadedIndex):
        self._config, self._data, self._index = config, data, index
        self._embed = TowerEmbedder(config, params["embedder"], "query")
        self._reader = parallel.replicate(params["reader"])
        self._read = span_reader(config.model, config.finetune.max_span_width)
        self.finder = AnswerFinder(data.knowledge, data.tokenizer)
        self._bad_patterns: set[str] = set()

    def encode(self, questions: Sequence[Question]) -> tuple[Tokens, Float[np.ndarray, "questions dim"]]:
        """Tokens and embeddings of questions."""
        length = self._config.finetune.question_len_tokens
        tokens = question_tokens(questions, self._data.tokenizer, self._data.special, length)
        return tokens, embed_queries(self._embed, tokens)

    def retrieve(self, query_emb: Float[np.ndarray, "questions dim"], depth: int) -> Int[np.ndarray, "questions depth"]:
        """The best blocks of each question; -1 where the corpus has fewer."""
        parts = [
            self._index.search.search(query_emb[start : start + SEARCH_BATCH], depth)[0]
            for start in range(0, len(query_emb), SEARCH_BATCH)
        ]
        return np.concatenate(parts)

    def retrieval_scores(
        self, query_emb: Float[np.ndarray, "questions dim"], blocks: Int[np.ndarray, "questions k"]
    ) -> Float[np.ndarray, "questions k"]:
        """Inner products of questions with their blocks; those of block -1 mean nothing."""
        embeddings = np.asarray(self._index.embeddings[np.maximum(blocks, 0)], np.float32)
        return np.einsum("qd,qkd->qk", query_emb, embeddings)

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
            name: shown with the progress; empty for none.
        """
        tokens, query_emb = self.encode(questions)
        if candidates is None:
            candidates = self.retrieve(query_emb, max(depth, num_blocks))
        read = candidates[:, :num_blocks]
        retrieval = self.retrieval_scores(query_emb, read)
        best = self.read(tokens, read, retrieval, name)
        ranks = self.answer_ranks(questions, candidates)
        predictions = [
            self._prediction(question, int(ranks[i]), read[i], retrieval[i], [part[i] for part in best])
            for i, question in enumerate(questions)
        ]
        if name and self._bad_patterns:
            bad = sorted(self._bad_patterns)
            log.info(f"{name}: {len(bad)} expressions cannot be matched and count as wrong: {'; '.join(bad[:3])}")
        return predictions

    def read(self, query: Tokens, blocks: np.ndarray, retrieval: np.ndarray, name: str = "") -> tuple[np.ndarray, ...]:
        """Reads each question with each of its blocks.

        Returns:
            the best span's score, its first and last wordpiece in the body, and the log-sum of exp of all spans'
            scores. All [questions, blocks]; scores are -inf where nothing can be read.
        """
        corpus, devices = self._data.knowledge, parallel.num_devices()
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
            size = max(1, BATCH_TOKENS // self._padded(int(lengths[order[done]])) // devices) * devices
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
        return score, first, last, mass

    def _padded(self, length: int) -> int:
        return min(self._config.reader_len_tokens, -(-length // LENGTH_STEP) * LENGTH_STEP)

    def _prediction(self, question, answer_rank, read, retrieval, best) -> Prediction:
        score, first, last, mass = best
        corpus, config = self._data.knowledge, self._config.finetune
        spans = self.finder.spans(question, read, config.max_span_width)
        found = {
            "question": question,
            "oracle": len(spans) > 0,
            "blocks": tuple(int(block) for block in read if block >= 0),
            "retrieval_scores": tuple(float(s) for s, block in zip(retrieval, read, strict=True) if block >= 0),
            "answer_rank": answer_rank,
        }
        if not np.isfinite(score).any():
            return Prediction(answer="", is_correct=False, **found)
        rank = int(np.argmax(score))
        block = int(read[rank])
        start, limit = span_of_text(corpus, self._data.tokenizer, block, int(first[rank]), int(last[rank]))
        answer = corpus.block(block).text[start:limit]
        total = np.logaddexp.reduce(mass[np.isfinite(mass)])
        return Prediction(
            answer=answer,
            is_correct=is_correct(question, answer, self._bad_patterns),
            probability=float(np.exp(score[rank] - total)),
            block_rank=rank,
            span=(start, limit),
            **found,
        )


@functools.cache  # one function, so that the next evaluation finds it compiled
def span_reader(model: ModelConfig, max_width: int) -> Callable:
    """The best span of each pair of question and block: compiled `_best_span` of (reader, *sharded inputs)."""
    return parallel.on_local_devices(functools.partial(_best_span, model, max_width))


def _best_span(model: ModelConfig, max_width: int, params: dict, joint: Tokens, mask, retrieval) -> tuple:
    """(score, first, last, log-sum) of one device's pairs, each [pairs, 1]; positions count in the joint sequence."""
    starts, ends = (jnp.asarray(x) for x in reader.spans(joint.ids.shape[-1], max_width))
    scores = reader.span_scores(model, params, joint, mask, max_width)
    scores = jnp.where(scores > MASKED_SCORE / 2, scores + retrieval[..., None], -jnp.inf)
    best = scores.argmax(-1)
    return scores.max(-1), starts[best], ends[best], jax.nn.logsumexp(scores, axis=-1)
