"""Answers one question: the best span of every block that the fine-tuned reader sees, with its probability.

What `openqa.predict.Answerer` does for question sets, in one batch of a fixed shape, so that nothing compiles after the
first question; and all blocks' answers are kept instead of the best alone.
"""

import jax
import numpy as np

from realm_jax import parallel
from realm_jax.config import Config
from realm_jax.data.prepare import RunData
from realm_jax.index.embed_blocks import TowerEmbedder
from realm_jax.index.loaded_index import LoadedIndex
from realm_jax.index.probe import embed_queries
from realm_jax.openqa.inputs import question_tokens, reader_inputs, rows, span_of_text
from realm_jax.openqa.predict import span_reader
from realm_jax.records import Question
from realm_jax.serve.results import Answered, Refused, SpanAnswer, length_note, unknown_note


class QuestionAnswerer:
    """Fine-tuned parameters over one index.

    Args:
        config: with the fine-tuning's own `finetune` section.
        params: `embedder` and `reader`, on the host.
    """

    def __init__(self, config: Config, data: RunData, params: dict, index: LoadedIndex):
        self._config, self._data, self._index = config, data, index
        self._embed = TowerEmbedder(config, params["embedder"], "query")
        self._reader = parallel.replicate(params["reader"])
        self._read = span_reader(config.model, config.finetune.max_span_width)

    def ask(self, text: str) -> Answered:
        """Answers by probability. Raises Refused if there is no question."""
        if not text.strip():
            raise Refused("Write a question.")
        settings, data = self._config.finetune, self._data
        length = settings.question_len_tokens
        query = question_tokens([Question("", text)], data.tokenizer, data.special, length)
        query_emb = embed_queries(self._embed, query)
        blocks, _ = self._index.search.search(query_emb, settings.inference_blocks)
        devices = parallel.num_devices()
        read = np.pad(blocks[0], (0, -len(blocks[0]) % devices), constant_values=-1)  # -1 is read as an empty body
        retrieval = np.asarray(self._index.embeddings[np.maximum(read, 0)], np.float32) @ query_emb[0]
        row = np.zeros(len(read), np.int64)
        joint, body = reader_inputs(rows(query, row), read[:, None], data.knowledge, self._config.reader_len_tokens)
        out = self._read(self._reader, *parallel.shard((joint, body, retrieval[:, None])))
        score, first, last, mass = (x.reshape(-1) for x in jax.device_get(out))
        total = np.logaddexp.reduce(mass[np.isfinite(mass)])
        offset = int(query.mask.sum())  # positions count from the question's start
        answers = [
            self._answer(int(read[i]), (int(first[i]) - offset, int(last[i]) - offset), score[i] - total, retrieval[i])
            for i in np.argsort(-score, kind="stable")
            if np.isfinite(score[i])
        ]
        ids = data.tokenizer.encode(text, add_special_tokens=False).ids
        unknown = unknown_note(ids, data.tokenizer.token_to_id("[UNK]"), data.special)
        return Answered(text, tuple(answers), (*length_note(length - 2, len(ids)), *unknown))

    def _answer(self, block: int, wordpieces: tuple[int, int], logp: np.floating, score: np.floating) -> SpanAnswer:
        corpus = self._data.knowledge
        start, limit = span_of_text(corpus, self._data.tokenizer, block, *wordpieces)
        found = corpus.block(block)
        where = block, found.source_id, found.title, found.text
        return SpanAnswer(found.text[start:limit], float(np.exp(logp)), *where, (start, limit), float(score))
