"""What the demo has to say about one sentence or question, as plain values: for the page, and as JSON for programs."""

from dataclasses import dataclass

from realm_jax.data.assembly import SpecialIds

NULL = -1  # the null block's ordinal


class Refused(ValueError):
    """An input that cannot be answered; the message says what to change."""


@dataclass(frozen=True)
class Source:
    """The parameters and the index version that an answer came from."""

    version: str
    """Folder of the index version."""
    version_step: int
    """Training step of the weights that embedded its blocks."""
    built: float
    """When it was finished, in seconds since 1970."""
    blocks: int
    """How many can be found."""
    params: str
    """Phase and step of the parameters."""
    age_steps: int | None
    """Training steps from the index's weights to the parameters; None after fine-tuning, which counts its own."""


@dataclass(frozen=True)
class Added:
    """A document that was added to the run."""

    source_id: str
    blocks: int
    """Blocks that it was cut into."""
    version: str
    """Index version that has it."""
    seconds: float


@dataclass(frozen=True)
class Guess:
    """A wordpiece for one [MASK]."""

    wordpiece: str
    probability: float


@dataclass(frozen=True)
class ReadBlock:
    """A candidate block z of a masked sentence x, or the null block, which has no text."""

    block: int
    """Ordinal in the corpus; -1 for the null block."""
    source_id: str
    title: str
    text: str
    probability: float
    """p(z|x) among the candidates, the null block being one."""
    guesses: tuple[Guess, ...]
    """The best wordpiece of each [MASK] by p(y|z,x): what this block alone says."""


@dataclass(frozen=True)
class Filled:
    """A masked sentence with predictions for its blanks."""

    parts: tuple[str, ...]
    """The text around the blanks, as far as it was read: one part more than blanks."""
    blanks: tuple[tuple[Guess, ...], ...]
    """For each [MASK] the best wordpieces by p(y|x), which is summed over all candidates."""
    null_share: float
    """p(null block | x)"""
    blocks: tuple[ReadBlock, ...]
    """The candidates by p(z|x), the null block among them unless the run was trained without."""
    null_guesses: tuple[Guess, ...]
    """What the encoder says without any text, one a blank."""
    notes: tuple[str, ...]
    """What was cut or is unknown to the vocabulary."""


@dataclass(frozen=True)
class SpanAnswer:
    """The best span of one block that was read."""

    answer: str
    probability: float
    """Of the span among all spans of all blocks that were read."""
    block: int
    source_id: str
    title: str
    text: str
    span: tuple[int, int]
    """Characters of the answer in the text."""
    retrieval_score: float


@dataclass(frozen=True)
class Answered:
    """A question with the best span of every block that was read, the answer first."""

    question: str
    answers: tuple[SpanAnswer, ...]
    notes: tuple[str, ...]


def length_note(read: int, given: int, where: str = "the first ones") -> list[str]:
    """A note if not all wordpieces were read."""
    return [f"Only {read} of {given} wordpieces were read, {where}."] if given > read else []


def unknown_note(ids: list[int], unknown_id: int | None, special: SpecialIds) -> list[str]:
    """A note if the vocabulary lacks words of the text."""
    words = [token for token in ids if token != special.mask]
    unknown = sum(token == unknown_id for token in words)
    if not unknown:
        return []
    return [f"The vocabulary lacks {unknown} of {len(words)} wordpieces: the model sees [UNK] in their place."]
