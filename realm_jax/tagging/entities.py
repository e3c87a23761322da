"""Entity-level precision, recall and F1, as CoNLL's scorer counts them (Tjong Kim Sang and De Meulder 2003).

A predicted entity is right if its first word, its last word and its type are those of a true one. Entities are counted
over all sentences together; `bio` says which entities labels stand for.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

from realm_jax.tagging.bio import chunks


@dataclass(frozen=True)
class Counts:
    """True, predicted and right entities of one type or of all."""

    gold: int
    predicted: int
    correct: int

    @property
    def precision(self) -> float:
        """Share of the predicted entities that are right; 0 if there is none."""
        return self.correct / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        """Share of the true entities that were found; 0 if there is none."""
        return self.correct / self.gold if self.gold else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall."""
        return 2 * self.correct / (self.gold + self.predicted) if self.correct else 0.0

    def to_json(self) -> dict[str, float | int]:
        """Scores rounded for people, and the counts."""
        scores = {name: round(getattr(self, name), 4) for name in ("precision", "recall", "f1")}
        return {**scores, "gold": self.gold, "predicted": self.predicted, "correct": self.correct}


@dataclass(frozen=True)
class EntityScores:
    """Scores over all entities, and by type."""

    overall: Counts
    by_type: dict[str, Counts]

    def to_json(self) -> dict:
        """`Counts.to_json` of all entities (`overall`) and of each type."""
        return {"overall": self.overall.to_json()} | {t: c.to_json() for t, c in sorted(self.by_type.items())}


def score_labels(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> EntityScores:
    """Scores of predicted labels (`O`, `B-X`, `I-X`), one per word, sentence by sentence.

    Raises:
        ValueError: a sentence has another number of labels.
    """
    for theirs, ours in zip(gold, predicted, strict=True):
        if len(theirs) != len(ours):
            raise ValueError(f"{len(ours)} labels are predicted for {len(theirs)} words")
    return score_spans([chunks(labels) for labels in gold], [chunks(labels) for labels in predicted])


def score_spans(
    gold: Sequence[Iterable[tuple[Hashable, Hashable, str]]], predicted: Sequence[Iterable[tuple]]
) -> EntityScores:
    """The same for entities given as (start, limit, type), sentence by sentence."""
    counts: dict[str, Counter] = {name: Counter() for name in ("gold", "predicted", "correct")}
    for theirs, ours in zip(map(set, gold), map(set, predicted), strict=True):
        for name, found in (("gold", theirs), ("predicted", ours), ("correct", theirs & ours)):
            counts[name].update(kind for _, _, kind in found)
    types = counts["gold"].keys() | counts["predicted"].keys()
    by_type = {kind: Counts(*(counts[name][kind] for name in counts)) for kind in types}
    return EntityScores(Counts(*(counts[name].total() for name in counts)), by_type)
