"""Answers one question: the best span of every block that the fine-tuned reader sees, with its probability."""

import numpy as np

from realm_jax.inference.answered import Answered, SpanAnswer
from realm_jax.inference.results import Refused, Source, length_note, unknown_note
from realm_jax.openqa.predict import Answerer
from realm_jax.records import Question


def ask(answerer: Answerer, text: str, source: Source | None = None) -> Answered:
    """Reads the blocks of a question as the evaluation does, and keeps the best span of each block.

    Args:
        source: where the answers come from, which they name.

    Raises:
        Refused: there is no question.
    """
    if not text.strip():
        raise Refused("Write a question.")
    settings, data = answerer.config.finetune, answerer.data
    query, query_emb = answerer.retriever.encode([Question("", text)])
    blocks, _ = answerer.retriever.search(query_emb, settings.inference_blocks)
    retrieval = answerer.retriever.scores(query_emb, blocks)
    best = answerer.read(query, blocks, retrieval).of(0)
    answers = []
    for rank in np.argsort(-best.score, kind="stable").tolist():
        if not np.isfinite(best.score[rank]):
            continue
        found = data.knowledge.block(int(blocks[0, rank]))
        start, limit = answerer.span(found.index, int(best.first[rank]), int(best.last[rank]))
        where = found.index, found.source_id, found.title, found.text
        score, probability = float(retrieval[0, rank]), best.probability(rank)
        answers.append(SpanAnswer(found.text[start:limit], probability, *where, (start, limit), score))
    ids = data.tokenizer.encode(text, add_special_tokens=False).ids
    notes = length_note(settings.question_len_tokens - 2, len(ids))
    notes += unknown_note(ids, data.tokenizer.token_to_id("[UNK]"), data.special)
    return Answered(text, tuple(answers), tuple(notes), source)
