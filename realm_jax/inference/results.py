"""Results of a run, as values that print themselves: as short lines in a terminal, as HTML in a notebook."""

import html
import re
import time
from dataclasses import dataclass
from typing import TypeVar

from realm_jax.config import ConfigError
from realm_jax.data.assembly import SpecialIds
from realm_jax.inference import fragments

WIDTH = 100  # columns of a line that is printed
T = TypeVar("T")


class Refused(ConfigError):
    """An input that cannot be answered, or a run that cannot answer it yet; the message says what to change."""


class Results(list[T]):
    """A list that prints each result on a line of its own, and as HTML in a notebook."""

    def __getitem__(self, at):
        found = super().__getitem__(at)
        return Results(found) if isinstance(at, slice) else found

    def __repr__(self) -> str:
        return "\n".join(map(repr, self)) or "nothing was found"

    def _repr_html_(self) -> str:
        return fragments.alone("".join(result.html() for result in self) or "<p>Nothing was found.</p>")


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
    """How many blocks can be found."""
    params: str
    """Phase and step of the parameters."""
    age_steps: int | None
    """Training steps from the index's weights to the parameters; None after fine-tuning, which counts its own."""

    def __repr__(self) -> str:
        return f"{self.params}; index version {self.version}, {self.blocks:,} blocks"

    def html(self, what: str = "From ") -> str:
        """A line on where an answer came from, begun by `what`."""
        where = f"{what}{html.escape(self.params)} · index version <code>{html.escape(self.version)}</code>"
        age = "" if self.age_steps is None else f", age {self.age_steps:,} steps"
        facts = f"weights of step {self.version_step:,}{age}, built {_ago(time.time() - self.built)}"
        return f'<p class="muted">{where}: {facts}, {self.blocks:,} blocks</p>'


@dataclass(frozen=True, repr=False)
class Hit:
    """A block that was found for a text."""

    block: int
    """Ordinal in the corpus: the row of its embedding."""
    source_id: str
    """Id of its record."""
    title: str
    text: str
    score: float
    """Retrieval score: the inner product of the two embeddings."""

    def __repr__(self) -> str:
        return short(f"{self.score:8.3f}  {self.title}: {self.text}  [{self.source_id}]")

    def html(self) -> str:
        """The block beside its score."""
        return fragments.scored(self.score, fragments.titled(self.title, html.escape(self.text)))


@dataclass(frozen=True, repr=False)
class Changed:
    """What a change did to the knowledge of a run."""

    added: tuple[str, ...]
    """Ids of the records that were added."""
    deleted: tuple[str, ...]
    """Ids of the records that were deleted."""
    blocks: int
    """Blocks that the added records were cut into."""
    version: str
    """The newest index version, which has the change."""
    seconds: float
    """Seconds until the change could be found."""

    def __repr__(self) -> str:
        what = [f"{verb} {', '.join(ids)}" for verb, ids in (("added", self.added), ("deleted", self.deleted)) if ids]
        blocks = [f"{self.blocks} block{'s' * (self.blocks != 1)}"] if self.added else []
        return short(f"{'; '.join([*what, *blocks]) or 'nothing to change'}; {self.version} after {self.seconds} s")

    def _repr_html_(self) -> str:
        return fragments.alone(f"<p>{html.escape(repr(self))}</p>")


@dataclass(frozen=True, repr=False)
class IndexVersion:
    """An index version on disk."""

    name: str
    """Its folder, as `realm_jax.open(workdir, version=…)` takes it."""
    step: int
    """Training step of the weights that embedded its blocks."""
    blocks: int
    """Blocks that it has embeddings of."""
    built: float
    """When it was finished, in seconds since 1970."""
    seconds: float
    """Seconds that the build took."""
    recall: dict[str, float]
    """`plain_recall@k` and `hard_recall@k` of held-out sentences; empty if none are held out."""

    def __repr__(self) -> str:
        recall = "".join(f"  {name} {value:.3f}" for name, value in self.recall.items() if name.endswith("@5"))
        return f"{self.name}  {self.blocks:,} blocks  built in {self.seconds:.1f} s{recall}"

    def html(self) -> str:
        """The same line as HTML."""
        return f"<p><code>{html.escape(self.name)}</code>{html.escape(repr(self).removeprefix(self.name))}</p>"


def short(text: str) -> str:
    """One line of at most `WIDTH` characters."""
    line = re.sub(r"\s*[\r\n]\s*", " ", text)
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 2].rstrip()} …"


def _ago(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{max(seconds, 0):.0f} s ago"


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
