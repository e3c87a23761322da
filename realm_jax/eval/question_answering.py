"""Answers a question set with a fine-tuned run, beside the floors and baselines that it has to beat.

Most baselines share the fine-tuned reader and differ in what it reads: blocks by BM25, random blocks, or those of a
retriever before fine-tuning. Two read nothing: the most frequent training answer, and the masked language model alone.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int32

from realm_jax.config import CONVERTED
from realm_jax.data.corpus import Corpus
from realm_jax.data.prepare import RunData
from realm_jax.eval import block_sample, closed_book
from realm_jax.eval.baselines import bm25
from realm_jax.eval.block_sample import BlockSample
from realm_jax.eval.ranking_files import Ranking
from realm_jax.index.loaded_index import LoadedIndex, exact_index, is_too_large
from realm_jax.index.store import IndexStore
from realm_jax.openqa.predict import Answerer
from realm_jax.records import Prediction, Question
from realm_jax.scores import recall
from realm_jax.scores.answers import is_correct, normalize
from realm_jax.training import phases
from realm_jax.training.finetuning import Finetuning

DEPTH = 100
KS = (1, 5, 20, 100)
BASELINES = {
    "bm25": "BM25's blocks, same reader",
    "random": "random blocks, same reader",
    "ict": "retriever after ICT, same reader",
    "pretrained": "retriever before fine-tuning, same reader",
    "frequent": "most frequent training answer",
    "closed_book": "closed book: the masked language model, no block",
}
"""Names that `--baseline` takes, and what the report calls them."""
FINE_TUNED = "fine-tuned"
ZERO_SHOT = "before fine-tuning"


def evaluate(
    finetuning: Finetuning,
    data: RunData,
    questions: Sequence[Question],
    baselines: Sequence[str],
    num_blocks: int,
    train_questions: Sequence[Question] = (),
    counts: Sequence[int] = (),
) -> tuple[dict[str, list[Prediction]], dict[int, list[Prediction]], dict[str, list[int]], Ranking, BlockSample | None]:
    """Answers the questions with the fine-tuned model, then with each baseline.

    Args:
        train_questions: needed by the baseline `frequent` alone.
        counts: other numbers of blocks that the fine-tuned model reads, besides `num_blocks`.

    Returns:
        predictions by the system's name in the report; those of the fine-tuned model by the number of blocks, where
        there are several; the rank of each question's first block with an answer (-1 if
        none has one), by each of the retrievers in use and by the one before fine-tuning; what the fine-tuned
        retriever found; and the blocks that retrievers without an index version search, if not all.
    """
    params, first = finetuning.best_params(), finetuning.first_params()
    store = finetuning.index_store(data, first)
    answerer = Answerer(finetuning.config, data, params, finetuning.index_of(data, params, store))
    depth = max(DEPTH, num_blocks)
    ranking = rank(answerer, questions, max((depth, *counts)))
    sample = _sample(finetuning, data, ranking, baselines)
    by_blocks = {}
    for count in dict.fromkeys((num_blocks, *counts)):
        chosen = {"num_blocks": count, "candidates": ranking.blocks, "name": f"{FINE_TUNED}, {count} blocks"}
        by_blocks[count] = answerer.answer(questions, **chosen)
    systems = {FINE_TUNED: by_blocks[num_blocks]}
    for baseline in baselines:
        name = BASELINES[baseline]
        if baseline == "frequent":
            systems[name] = most_frequent(questions, train_questions)
            continue
        if baseline == "closed_book":
            systems[name] = closed_book.answer(finetuning.workdir, data, questions)
            continue
        own, candidates = answerer, None
        if baseline == "bm25":
            candidates = bm25(data.knowledge, [question.text for question in questions], depth)
        elif baseline == "random":
            candidates = random_blocks(data.knowledge, (len(questions), depth), finetuning.config.seed)
        elif baseline == "pretrained":
            old = {"embedder": first["embedder"], "reader": params["reader"]}
            own = Answerer(finetuning.config, data, old, _index_of_first(finetuning, data, old, store, sample))
        else:
            old = phases.last_params(finetuning.workdir, "ict", ("embedder",))
            blocks = None if sample is None else sample.blocks
            index = exact_index(finetuning.config, data.knowledge, old["embedder"], "after ICT", blocks)
            own = Answerer(finetuning.config, data, {**old, "reader": params["reader"]}, index)
        arguments = {"num_blocks": num_blocks, "candidates": candidates, "depth": depth, "name": name}
        systems[name] = own.answer(questions, **arguments)
    before = Answerer(finetuning.config, data, first, _index_of_first(finetuning, data, first, store, sample))
    query_emb = before.retriever.encode(questions)[1]
    ranks = before.answer_ranks(questions, before.retriever.search(query_emb, DEPTH)[0])
    found = {name: [p.answer_rank for p in system] for name, system in systems.items() if any(p.blocks for p in system)}
    return systems, by_blocks if counts else {}, {**found, ZERO_SHOT: ranks.tolist()}, ranking, sample


def impossible(finetuning: Finetuning, train_questions: Sequence[Question]) -> dict[str, str]:
    """Baselines that cannot be made of this run, each with the reason."""
    workdir, reasons = finetuning.workdir, {}
    if not workdir.is_done("ict"):
        reasons["ict"] = f"{workdir.path} has no finished ict phase"
    if not any(
        normalize(answer) for question in train_questions if not question.is_regex for answer in question.answers
    ):
        reasons["frequent"] = "no training question has a plain answer (a regular expression is no answer to give)"
    if workdir.config.init == CONVERTED and "encoder" not in phases.converted_parts(workdir):
        reasons["closed_book"] = f"{workdir.path} was converted without encoder"
    return reasons


def _sample(finetuning: Finetuning, data: RunData, ranking: Ranking, baselines: Sequence[str]) -> BlockSample | None:
    """The blocks of a large corpus that are embedded for a retriever which no index version is of; None if none is."""
    moves = finetuning.config.finetune.train_retriever == "both"
    if not is_too_large(finetuning.config, data.knowledge) or not (moves or "ict" in baselines):
        return None
    return block_sample.draw(finetuning.config, data.knowledge, [ranking.blocks], "the fine-tuned retriever")


def _index_of_first(
    finetuning: Finetuning, data: RunData, params: dict, store: IndexStore, sample: BlockSample | None
) -> LoadedIndex:
    """The index to search with the embedder before fine-tuning; versions of a block tower that learns are not its."""
    if sample is not None and finetuning.config.finetune.train_retriever == "both":
        return exact_index(finetuning.config, data.knowledge, params["embedder"], ZERO_SHOT, sample.blocks)
    return finetuning.index_of(data, params, store)


def rank(answerer: Answerer, questions: Sequence[Question], depth: int) -> Ranking:
    """What the fine-tuned retriever finds for the questions, `depth` blocks for each."""
    query_emb = answerer.retriever.encode(questions)[1]
    blocks, _ = answerer.retriever.search(query_emb, depth)
    scores = np.where(blocks >= 0, answerer.retriever.scores(query_emb, blocks), -np.inf)
    return Ranking(FINE_TUNED, questions, blocks, scores)


def random_blocks(corpus: Corpus, shape: tuple[int, int], seed: int) -> Int32[np.ndarray, "questions depth"]:
    """Blocks drawn uniformly from those that are live."""
    live = np.flatnonzero(corpus.live)
    return np.random.default_rng(seed).choice(live, size=shape).astype(np.int32)


def most_frequent(questions: Sequence[Question], train_questions: Sequence[Question]) -> list[Prediction]:
    """The same answer to every question: the one that is an answer to most training questions."""
    counts: Counter = Counter()
    spelled: dict[str, str] = {}
    for question in train_questions:
        answers = () if question.is_regex else question.answers
        normal = {normalize(answer): answer for answer in answers}
        counts.update(key for key in normal if key)
        spelled |= normal
    answer = spelled[counts.most_common(1)[0][0]]
    return [Prediction(question, answer, is_correct(question, answer)) for question in questions]


def recall_table(answer_ranks: Sequence[int]) -> dict[str, recall.Mean]:
    """recall@k from the rank of each question's first block with an answer (-1: none)."""
    ranks = np.asarray(answer_ranks)
    return {f"recall@{k}": recall.mean((ranks >= 0) & (ranks < k)) for k in KS}
