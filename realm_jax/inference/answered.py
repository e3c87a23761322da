"""A question with its answers: spans of the blocks that were read."""

import html
from dataclasses import dataclass

from realm_jax.inference import fragments
from realm_jax.inference.fragments import percent
from realm_jax.inference.results import Source, short

PROBABILITY = "A probability is that of the span among all spans of all blocks that were read."


@dataclass(frozen=True, repr=False)
class SpanAnswer:
    """The best span of one block that was read."""

    answer: str
    probability: float
    """Probability of the span among all spans of all blocks that were read."""
    block: int
    """Ordinal in the corpus."""
    source_id: str
    """Id of the block's record."""
    title: str
    text: str
    span: tuple[int, int]
    """Characters of the answer in the text."""
    retrieval_score: float

    def __repr__(self) -> str:
        return short(f"  {percent(self.probability):>6}  {self.answer}  |  {self.title}: {self.text}")

    def html(self) -> str:
        """The answer, marked in its block, beside its probability."""
        return fragments.row(self.probability, fragments.titled(self.title, fragments.marked(self.text, *self.span)))


@dataclass(frozen=True, repr=False)
class Answered:
    """A question with the best span of every block that was read, the answer first."""

    question: str
    answers: tuple[SpanAnswer, ...]
    notes: tuple[str, ...]
    """What was cut or is unknown to the vocabulary."""
    source: Source | None = None

    @property
    def answer(self) -> str:
        """The best answer; empty if no block was found to read."""
        return self.answers[0].answer if self.answers else ""

    def __repr__(self) -> str:
        lines = [short(self.question), *(map(repr, self.answers) if self.answers else ["no block was found to read"])]
        return "\n".join([*lines, *self.notes, *([repr(self.source)] if self.source else [])])

    def _repr_html_(self) -> str:
        return fragments.alone(self.html())

    def html(self) -> str:
        """The answer in its block, then what the other blocks would answer."""
        notes, source = fragments.notes(self.notes), self.source.html() if self.source else ""
        if not self.answers:
            return fragments.frame([*notes, "<p>No block was found to read.</p>", source])
        best, *others = self.answers
        parts = [f'<p class="said" dir="auto"><mark>{html.escape(best.answer)}</mark></p>', *notes, best.html()]
        if others:
            parts += ["<h4>Best answers of the other blocks</h4>", *(other.html() for other in others)]
        return fragments.frame([*parts, f'<p class="muted">{PROBABILITY}</p>', source])
