"""What a retriever found for questions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from realm_jax.records import Question


@dataclass(frozen=True)
class Ranking:
    """Blocks of each question, the best first; -1 with a score of -inf where there are fewer."""

    retriever: str
    """For people."""
    questions: Sequence[Question]
    blocks: Int[np.ndarray, "questions depth"]
    scores: Float[np.ndarray, "questions depth"]

    def found(self, row: int) -> Iterator[tuple[int, float]]:
        """(block, score) of a question."""
        for block, score in zip(self.blocks[row].tolist(), self.scores[row].tolist(), strict=True):
            if block >= 0:
                yield block, score
