"""Questions from the run's own knowledge corpus: sentences with one salient span masked, whose text is the answer.

Held-out articles give the development and test questions, the others the training questions; no download is needed.
A retriever that finds the sentence's own block can answer, so these show whether a run works, not how well it would do
on questions that people ask.
"""

import dataclasses
from typing import SupportsIndex

import numpy as np

from realm_jax.config import Config, ConfigError
from realm_jax.data.blocks import hash64
from realm_jax.data.pipeline import MaskedSentences, shuffled
from realm_jax.data.prepare import RunData
from realm_jax.records import Question

MASK = "[MASK]"
MOST_QUESTIONS = {"train": 4000, "dev": 500, "test": 1000}
MIN_ANSWER_LEN = 3  # characters
MIN_SENTENCE_LEN = 6  # words


def questions(run: RunData, config: Config, split: str, most: int | None = None) -> list[Question]:
    """Makes up to `most` questions of a split, at most one of each sentence, in a seeded order.

    The default is `finetune.train_questions`, or MOST_QUESTIONS where that is 0. A span is left out
    if it is short, stands in the article's title or elsewhere in its sentence, or would be cut off by
    `finetune.question_len_tokens`.

    Raises:
        ConfigError: the corpus has no such sentence.
    """
    if most is None:
        most = (split == "train" and config.finetune.train_questions) or MOST_QUESTIONS[split]
    settings = dataclasses.replace(
        config.pretrain,
        masking="salient",
        sampling="span",
        answer_elsewhere=False,
        query_len_tokens=config.finetune.question_len_tokens,
    )
    fraction = config.corpus.heldout_fraction
    masked = MaskedSentences(run.knowledge, run.special, settings, fraction, heldout=split != "train")
    found: dict[str, Question] = {}
    sentences = set()
    for number in shuffled(len(masked), config.seed):
        if len(found) == most:
            break
        sentence, question = _question(masked, number, split)
        if question is not None and sentence not in sentences and question.text not in found:
            sentences.add(sentence)
            found[question.text] = question
    if not found:
        raise ConfigError(
            f"cloze: no sentence of {run.knowledge.folder} gives a {split} question: "
            f"change --corpus.heldout_fraction (it is {fraction}) or use a larger corpus"
        )
    return list(found.values())


def _question(masked: MaskedSentences, number: SupportsIndex, split: str) -> tuple[tuple[int, int], Question | None]:
    """Finds (block and first byte of the sentence, the question if the span makes a good one of this split)."""
    segment, _, sentence, span = masked.locate(number)
    index = segment.first_block + int(span["block"])
    block = masked.corpus.block(index)
    text = block.text.encode()
    before = text[int(sentence["byte_start"]) : int(span["byte_start"])].decode()
    answer = text[int(span["byte_start"]) : int(span["byte_limit"])].decode()
    after = text[int(span["byte_limit"]) : int(sentence["byte_limit"])].decode()
    place = (index, int(sentence["byte_start"]))
    is_good = (
        _is_of(split, block.source_id)
        and masked.corpus.is_live(np.array([index])).all()
        and len(answer) >= MIN_ANSWER_LEN
        and len((before + answer + after).split()) >= MIN_SENTENCE_LEN
        and not any(answer.lower() in other.lower() for other in (block.title, before, after))
        and MASK not in before + after
    )
    if not is_good:
        return place, None
    question_id = f"cloze:{index}:{int(span['byte_start'])}"
    return place, Question(question_id, f"{before}{MASK}{after}", (answer,), gold_passages=(block.source_id,))


def _is_of(split: str, article: str) -> bool:
    """Whether a (held-out) article belongs to the split: a third of them is for development."""
    return split == "train" or (hash64(f"cloze {article}") % 3 == 0) == (split == "dev")
