"""What a retriever found for questions, and the files for other systems: TREC runs, DPR results, KILT predictions."""

import json
import logging
import pathlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from etils import epath
from jaxtyping import Float, Int
from tokenizers import Tokenizer

from realm_jax import paths
from realm_jax.config import ConfigError
from realm_jax.data.corpus import Corpus
from realm_jax.data.prepare import RunData
from realm_jax.openqa.labels import AnswerFinder
from realm_jax.records import Prediction, Question
from realm_jax.workdir import write_text

log = logging.getLogger(__name__)

DEPTH = 100
TAG = "realm_jax"


@dataclass(frozen=True)
class Ranking:
    """The blocks that were found for each question, the best first; -1 with a score of -inf where there are fewer."""

    retriever: str
    """Name of the retriever, for people."""
    questions: Sequence[Question]
    blocks: Int[np.ndarray, "questions depth"]
    scores: Float[np.ndarray, "questions depth"]

    def found(self, row: int) -> Iterator[tuple[int, float]]:
        """Each block of a question with its score."""
        pairs = zip(self.blocks[row].tolist(), self.scores[row].tolist(), strict=True)
        return ((block, score) for block, score in pairs if block >= 0)


def check(file: str, dataset: str) -> None:
    """Raises ConfigError, before anything is computed, if a file cannot be written, or is that of the questions."""
    if "://" in file:
        return
    path = pathlib.Path(file)
    if path.is_dir():
        raise ConfigError(f"{file} is a folder: pass a file in it")
    nearest = next(parent for parent in path.absolute().parents if parent.exists())
    if not nearest.is_dir():
        raise ConfigError(f"{file}: {nearest} is a file and no folder: pass another path")
    if dataset and paths.are_same(paths.absolute(file), paths.absolute(dataset)):
        raise ConfigError(f"{file} holds the questions: pass another file to write to")


def write(ranking: Ranking, data: RunData, files: dict[str, str], predictions: Sequence[Prediction] = ()) -> None:
    """Writes the files that are named, each whole or not at all, and logs it.

    Args:
        files: path of each form that is wanted: `trec`, `dpr` or `kilt`; an empty path counts as none.
        predictions: those for the same questions, which become KILT's answers.
    """
    corpus = data.knowledge
    forms = {
        "trec": lambda: trec_run(ranking, corpus),
        "dpr": lambda: dpr_results(ranking, corpus, data.tokenizer),
        "kilt": lambda: kilt_predictions(ranking, corpus, predictions),
    }
    for form, file in files.items():
        if file:
            write_text(epath.Path(file), forms[form]())
            log.info(f"written: {file} ({ranking.retriever}, {len(ranking.questions):,} questions)")


def trec_run(ranking: Ranking, corpus: Corpus) -> str:
    """Lines of `question Q0 record rank score tag`: the first DEPTH records of each question, each as its best block.

    Scores descend strictly, as float32, since trec_eval orders by them alone. White space in ids becomes %20.
    """
    lines = []
    for row, question in enumerate(ranking.questions):
        score = np.float32(np.inf)
        for rank, (record, own) in enumerate(_records(ranking, row, corpus), 1):
            score = min(np.float32(own), np.nextafter(score, np.float32(-np.inf)))
            lines.append(f"{_one_word(question.id)} Q0 {_one_word(record)} {rank} {score!s} {TAG}\n")
    return "".join(lines)


def dpr_results(ranking: Ranking, corpus: Corpus, tokenizer: Tokenizer) -> str:
    """DPR's list of `{question, answers, ctxs}`, which FiD and Atlas read: the first DEPTH blocks of each question.

    A block's id is that of its record, with `#n` where the record has several; `has_answer` is as in recall. Our own
    fields beside these (`id`, `is_regex`, `gold_passage`) let the questions be read again.
    """
    finder, places = AnswerFinder(corpus, tokenizer), _places(corpus)
    results = []
    for row, question in enumerate(ranking.questions):
        holds = finder.holds(question, ranking.blocks[row], "wordpieces").tolist()
        contexts = [
            {**_passage(corpus, block, places), "score": f"{score:.6f}", "has_answer": has}
            for (block, score), has in list(zip(ranking.found(row), holds, strict=False))[:DEPTH]
        ]
        gold = {"gold_passage": question.gold_passages} if question.gold_passages else {}
        own = {"id": question.id, **({"is_regex": True} if question.is_regex else {}), **gold}
        results.append({**own, "question": question.text, "answers": question.answers, "ctxs": contexts})
    return json.dumps(results, indent=1, ensure_ascii=False) + "\n"


def kilt_predictions(ranking: Ranking, corpus: Corpus, predictions: Sequence[Prediction] = ()) -> str:
    """KILT's lines of `{id, input, output: [{answer, provenance}]}`; provenance is the records, the best first.

    Args:
        predictions: those for the same questions; without them there is no `answer`.
    """
    lines = []
    for row, question in enumerate(ranking.questions):
        titles = {(block := corpus.block(index)).source_id: block.title for index, _ in reversed([*ranking.found(row)])}
        pages = [{"wikipedia_id": record, "title": titles[record]} for record, _ in _records(ranking, row, corpus)]
        answer = {"answer": predictions[row].answer} if predictions else {}
        output = [{**answer, "provenance": pages}]
        lines.append(json.dumps({"id": question.id, "input": question.text, "output": output}, ensure_ascii=False))
    return "".join(f"{line}\n" for line in lines)


def _records(ranking: Ranking, row: int, corpus: Corpus) -> list[tuple[str, float]]:
    """The first DEPTH records of a question, as pairs of id and score of the best block."""
    best: dict[str, float] = {}
    for block, score in ranking.found(row):
        if len(best) < DEPTH:
            best.setdefault(corpus.block(block).source_id, score)
    return list(best.items())


def _places(corpus: Corpus) -> tuple[np.ndarray, np.ndarray]:
    """Place of every block within its record, and how many blocks that record has."""
    of_block = corpus.record_of_block
    firsts = np.unique(of_block, return_index=True)[1]
    counts = np.bincount(of_block)
    return np.arange(len(of_block)) - np.repeat(firsts, counts[counts > 0]), counts[of_block]


def _passage(corpus: Corpus, index: int, places: tuple[np.ndarray, np.ndarray]) -> dict[str, str]:
    block = corpus.block(index)
    of_several = f"#{places[0][index]}" if places[1][index] > 1 else ""
    return {"id": block.source_id + of_several, "title": block.title, "text": block.text}


def _one_word(name: str) -> str:
    """An id as one word, as the fields of a run must be."""
    return re.sub(r"\s", "%20", name)
