"""Reports on scored predictions of a question set: numbers as plain JSON values, a Markdown page, an HTML page.

Every question counts in every mean, whether or not it was answered and has a known answer.
"""

import dataclasses
import html as html_lib
import math
import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float

from realm_jax import report
from realm_jax.data.corpus import Corpus
from realm_jax.eval import paper, qa_tables
from realm_jax.eval.qa_tables import percent
from realm_jax.inference import fragments
from realm_jax.records import Prediction
from realm_jax.scores import recall
from realm_jax.scores.bootstrap import Interval, interval, paired

WORDS = ("who", "what", "when", "where", "which", "why", "how")
WORD_WITHIN = 5  # first words of a question in which its question word is sought: "In which year did …"
RANKS = {"0": (0, 0), "1-4": (1, 4), "5-19": (5, 19), "20-99": (20, 99), "100-": (100, math.inf), "none": (-1, -1)}
NUM_BINS = 10
NUM_EXAMPLES = 10


def results(
    systems: dict[str, Sequence[Prediction]],
    recall_tables: dict[str, dict[str, recall.Mean]],
    facts: dict,
    *,
    overlap: dict[str, Bool[np.ndarray, " questions"]] | None = None,
    by_blocks: dict[int, Sequence[Prediction]] | None = None,
) -> dict:
    """All numbers as plain JSON values: shares lie in [0, 1], unknown values are None.

    Args:
        systems: predictions by the system's name, the main one first; all on the same questions in the same order.
        recall_tables: recall@k by state of the retriever; may be empty.
        facts: what was measured, plain values: `dataset`, `split` ("" for a file), `corpus` (its name), `blocks` if its
            number is known, and whatever else the pages shall say.
        overlap: which questions training had, as `overlap.by_overlap` says; None if that is not known.
        by_blocks: the main system's predictions by how many blocks it read; None for one number alone.

    Raises:
        ValueError: systems answered different questions.
    """
    main_name, *others = systems
    main = systems[main_name]
    for name in others:
        if [p.question for p in systems[name]] != [p.question for p in main]:
            raise ValueError(f"{name} and {main_name} answered different questions")
    return {
        "facts": facts,
        "main": main_name,
        "questions": len(main),
        "without_answers": sum(not p.question.answers for p in main),
        "systems": {name: _system(predictions, overlap) for name, predictions in systems.items()},
        "main_minus": {name: _plain(paired(_correct(main), _correct(systems[name]))) for name in others},
        "by_blocks": {str(count): _of_readers(of) for count, of in sorted((by_blocks or {}).items())},
        "recall": {state: {name: _plain(mean) for name, mean in row.items()} for state, row in recall_tables.items()},
        "published": [dataclasses.asdict(row) for row in paper.published(facts["dataset"])],
        "caveat": paper.caveat(facts["dataset"], facts["split"], facts["corpus"], facts.get("blocks"), len(main)),
    }


def markdown(results: dict) -> str:
    """The page as Markdown, without plots and examples."""
    return report.markdown(_title(results), _sections(results))


def html(results: dict, predictions: Sequence[Prediction], corpus: Corpus | None) -> str:
    """The page as one HTML file with plots and examples.

    Args:
        predictions: those of the main system, of which examples are shown.
        corpus: the one that the main system read; None shows no blocks.
    """
    examples = [report.Markup(_example(prediction, corpus)) for prediction in _chosen(predictions)]
    return report.html(_title(results), [*_sections(results), report.Section("Examples", examples)])


def _sections(results: dict) -> list[report.Section]:
    return [report.Section("", [_facts(results)]), *qa_tables.sections(results)]


def question_word(text: str) -> str:
    """The first of who, what, when, where, which, why and how among a question's first words, or `other`."""
    first = re.findall(r"[a-z]+", text.lower())[:WORD_WITHIN]
    return next((word for word in first if word in WORDS), "other")


def calibration(probabilities: Float[np.ndarray, " questions"], correct: Bool[np.ndarray, " questions"]) -> dict | None:
    """How far probabilities are from shares of right answers, in bins of equal width; None if no probability is known.

    Args:
        probabilities: one for each question; a question with NaN is left out.
        correct: whether each question was answered right.

    Returns:
        `expected_error` (mean distance between a bin's probability and its accuracy, weighted by questions), `n`, and
        the `bins` that hold a question.
    """
    known = ~np.isnan(probabilities)
    if not known.any():
        return None
    probabilities, correct = probabilities[known], correct[known]
    bin_of = np.minimum((probabilities * NUM_BINS).astype(int), NUM_BINS - 1)
    bins = []
    for i in np.unique(bin_of).tolist():
        inside = bin_of == i
        means = {"confidence": float(probabilities[inside].mean()), "accuracy": float(correct[inside].mean())}
        bins.append({"low": i / NUM_BINS, "high": (i + 1) / NUM_BINS, "n": int(inside.sum()), **means})
    error = sum(part["n"] * abs(part["confidence"] - part["accuracy"]) for part in bins) / len(correct)
    return {"expected_error": error, "n": len(correct), "bins": bins}


def _system(predictions: Sequence[Prediction], overlap: dict[str, np.ndarray] | None) -> dict:
    correct = _correct(predictions)
    words = np.array([question_word(p.question.text) for p in predictions])
    rank = np.array([p.answer_rank for p in predictions])
    ranks = {name: (low <= rank) & (rank <= high) for name, (low, high) in RANKS.items()}
    has_read = any(p.blocks for p in predictions)
    return {
        **_of_readers(predictions),
        "unanswered": sum(not p.answer.strip() for p in predictions),
        "by_word": _groups(correct, {word: words == word for word in (*WORDS, "other")}),
        "by_answer_rank": _groups(correct, ranks) if has_read else None,
        "by_overlap": _groups(correct, overlap) if overlap else None,
        "calibration": calibration(np.array([p.probability for p in predictions]), correct),
    }


def _of_readers(predictions: Sequence[Prediction]) -> dict:
    has_read = any(p.blocks for p in predictions)
    oracle = _plain(interval(np.array([p.oracle for p in predictions]))) if has_read else None
    return {"exact_match": _plain(interval(_correct(predictions))), "reader_oracle": oracle}


def _correct(predictions: Sequence[Prediction]) -> np.ndarray:
    return np.array([p.is_correct for p in predictions])


def _groups(correct: np.ndarray, groups: dict[str, np.ndarray]) -> dict:
    return {name: _plain(interval(correct[inside])) for name, inside in groups.items() if inside.any()}


def _plain(value: Interval | recall.Mean) -> dict:
    return {key: None if math.isnan(number) else number for key, number in dataclasses.asdict(value).items()}


def _chosen(predictions: Sequence[Prediction]) -> list[Prediction]:
    """Draws the same examples every time: right ones first, as many as wrong ones if there are enough."""
    drawn = [predictions[i] for i in np.random.default_rng(0).permutation(len(predictions))]
    right, wrong = [p for p in drawn if p.is_correct], [p for p in drawn if not p.is_correct]
    num_right = min(len(right), max(NUM_EXAMPLES // 2, NUM_EXAMPLES - len(wrong)))
    return right[:num_right] + wrong[: NUM_EXAMPLES - num_right]


def _example(prediction: Prediction, corpus: Corpus | None) -> str:
    """A prediction and the block that it was found in, as HTML."""
    escape, known = html_lib.escape, " / ".join(prediction.question.answers) or "none"
    answer = escape(prediction.answer.strip() or "(no answer)")
    if not math.isnan(prediction.probability):
        answer += f", probability {percent(prediction.probability)}%"
    parts = [f"<article><h3>{escape(prediction.question.text)}</h3>"]
    parts.append(f"<p>{'right' if prediction.is_correct else 'wrong'}: {answer}; known answers: {escape(known)}</p>")
    if corpus is not None and prediction.block_rank >= 0:
        block, (start, limit) = corpus.block(prediction.blocks[prediction.block_rank]), prediction.span
        title = f"<b>{escape(block.title)}</b> (rank {prediction.block_rank})"
        parts.append(f"<blockquote>{title} {fragments.marked(block.text, start, limit)}</blockquote>")
    return "\n".join([*parts, "</article>"])


def _title(results: dict) -> str:
    dataset = " ".join(filter(None, (results["facts"]["dataset"], results["facts"]["split"])))
    return f"{dataset}: exact match of {results['main']}"


def _facts(results: dict) -> tuple[str, ...]:
    others = {key: value for key, value in results["facts"].items() if key not in ("dataset", "split", "questions")}
    return (
        f"questions: {results['questions']:,}, {results['without_answers']:,} of them without a known answer; "
        "every one counts, answered or not",
        *(
            f"{key.replace('_', ' ')}: {value if isinstance(value, str) else f'{value:,}'}"
            for key, value in others.items()
            if value not in ("", None)
        ),
    )
