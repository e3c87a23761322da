"""Labels of words and the entities that they spell, by the rule of CoNLL's scorer (`conlleval`, Tjong Kim Sang 2003).

`B-X` begins an entity of type X and `I-X` goes on with one; `O` is outside. An entity begins at each `B-`, and at an
`I-` that follows `O` or another type, so that IOB1, IOB2 and whatever a model predicts are all read in the same way.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from jaxtyping import Float32, Int

from realm_jax.config import ConfigError

OUTSIDE = "O"
TRANSITION_WEIGHT, PRIOR_WEIGHT = 0.4, 0.2
"""How much the order of labels counts beside a model's own probabilities; chosen on development sentences, see
docs/taggers.md."""

Chunk = tuple[int, int, str]
"""(first word, one past the last word, type)"""


def split(label: str) -> tuple[str, str]:
    """Splits a label into (`B`, `I` or `O`, type); the type of `O` is empty. Raises ValueError for anything else."""
    position, dash, kind = label.partition("-")
    if label != OUTSIDE and not (position in ("B", "I") and dash and kind):
        raise ValueError(f"label {label!r} is none of O, B-TYPE and I-TYPE")
    return position, kind


def chunks(labels: Sequence[str]) -> list[Chunk]:
    """The entities of a sentence's labels, in order and disjoint."""
    found: list[Chunk] = []
    begun, before = 0, ""  # type of the entity that is open, if any
    for at, label in enumerate([*labels, OUTSIDE]):
        position, kind = split(label)
        if before and (position != "I" or kind != before):
            found.append((begun, at, before))
        if kind and (position == "B" or kind != before):
            begun = at
        before = kind
    return found


def bio(length: int, entities: Iterable[Chunk]) -> list[str]:
    """IOB2 labels of `length` words that spell the given entities."""
    labels = [OUTSIDE] * length
    for start, limit, kind in entities:
        labels[start:limit] = [f"B-{kind}"] + [f"I-{kind}"] * (limit - start - 1)
    return labels


def iob1(length: int, entities: Iterable[Chunk]) -> list[str]:
    """IOB1 labels that spell the entities, as CoNLL-2003 itself: `B-` only where an entity follows one of its type.

    They are easier to learn than IOB2: a word's label is nearly always I-TYPE, wherever its entity began.
    """
    labels = [OUTSIDE] * length
    for start, limit, kind in entities:
        follows = start > 0 and labels[start - 1][2:] == kind
        labels[start:limit] = [f"{'B' if follows else 'I'}-{kind}"] + [f"I-{kind}"] * (limit - start - 1)
    return labels


def label_set(types: Sequence[str]) -> list[str]:
    """All labels over some entity types, in the order of their ids: `O`, then `B-` and `I-` of each type.

    Raises:
        ConfigError: there is no type.
    """
    if len(set(types)) < len(types) or not types:
        raise ConfigError(f"the labelled text has the entity types {list(types)}: it needs at least one")
    return [OUTSIDE, *(f"{position}-{kind}" for kind in types for position in "BI")]


def transition_scores(
    sequences: Iterable[Int[np.ndarray, " _words"]], num_labels: int
) -> Float32[np.ndarray, "labels_before labels"]:
    """Scores [labels + 1, labels] of a label (column) after another (row); the last row is for a sentence's first word.

    They are 0.4 log P(label | label before) - 0.2 log P(label), counted in labelled text with half a count added
    everywhere. A model's p(label | sentence) contains P(label) already, so a part of it is taken out.

    Args:
        sequences: ids of the labels of each sentence.
    """
    pairs = np.full((num_labels + 1, num_labels), 0.5)
    for sequence in sequences:
        np.add.at(pairs, (np.append(num_labels, sequence[:-1])[: len(sequence)], sequence), 1)
    prior = pairs.sum(0) / pairs.sum()
    after = pairs / pairs.sum(1, keepdims=True)
    return (TRANSITION_WEIGHT * np.log(after) - PRIOR_WEIGHT * np.log(prior)).astype(np.float32)
