"""Records that people read: texts and their spans, blocks, questions and answers."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """A salient span of a text."""

    start: int
    """First character."""
    limit: int
    """One past the last character."""
    type: str
    """DATE, ENTITY, or the label of the tagger's model."""


@dataclass(frozen=True)
class Process:
    """One process of those that train together; each feeds its own devices (see `processes.this`)."""

    index: int = 0
    """Its place among them, from 0."""
    count: int = 1


@dataclass(frozen=True)
class Record:
    """One document of a source: what every corpus reader yields."""

    id: str
    """Stable and unique within its source."""
    title: str
    text: str
    where: str = ""
    """File and line, for error messages."""
    sentences: tuple[tuple[int, int], ...] | None = None
    """Characters [start, limit) of its sentences, in order, where the source says so itself."""
    spans: tuple[Span, ...] = ()
    """Salient spans within such sentences, in characters of the text."""


@dataclass(frozen=True)
class Block:
    """One retrievable block with its place in the corpus, for people to read."""

    index: int
    """Ordinal over all segments: the row of its embedding."""
    source_id: str
    title: str
    text: str


@dataclass(frozen=True)
class Question:
    """A question with what counts as a right answer."""

    id: str
    """Unique within its set."""
    text: str
    answers: tuple[str, ...] = ()
    """Strings, or regular expressions; empty where none is known."""
    is_regex: bool = False
    gold_passages: tuple[str, ...] = ()
    """Source ids of the records in the knowledge corpus that answer it, where the set names them."""
    gold_texts: tuple[str, ...] = ()
    """Texts of such passages, where the set gives them without an id."""


@dataclass(frozen=True)
class Prediction:
    """What a system answered, and from where. Ranks count from 0; -1 where there is none."""

    question: Question
    answer: str
    """Empty where there was nothing to answer from."""
    is_correct: bool
    """Whether it equals an answer in normal form, or matches a regular expression, as the question's set has it."""
    probability: float = float("nan")
    """Probability of the answer's span among all spans of all blocks that were read."""
    oracle: bool = False
    """Whether a right answer was among those spans."""
    block_rank: int = -1
    """Rank of the block that the answer was read from."""
    span: tuple[int, int] = (0, 0)
    """Characters of the answer in that block's text."""
    blocks: tuple[int, ...] = ()
    """Ordinals of the blocks that were read, by rank."""
    retrieval_scores: tuple[float, ...] = ()
    """Their retrieval scores f(x, z)."""
    answer_rank: int = -1
    """Rank of the first retrieved block (read or not) that has a right answer."""
