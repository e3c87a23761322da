"""A masked sentence with its blanks filled, and what each block that was read says."""

import html
from collections.abc import Sequence
from dataclasses import dataclass

from realm_jax.inference import fragments
from realm_jax.inference.fragments import percent
from realm_jax.inference.results import Source, short

NULL = -1  # the null block's ordinal


@dataclass(frozen=True)
class Guess:
    """A wordpiece for one [MASK]."""

    wordpiece: str
    probability: float

    def __repr__(self) -> str:
        return f"{self.wordpiece} {percent(self.probability)}"


@dataclass(frozen=True, repr=False)
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
    """The best wordpiece of each [MASK] by p(y|z,x): what the model predicts from this block alone."""

    @property
    def is_null(self) -> bool:
        """Whether it is the null block."""
        return self.block == NULL

    def __repr__(self) -> str:
        what = "(null block)" if self.is_null else f"{self.title}: {self.text}"
        alone = ", ".join(map(repr, self.guesses))
        return short(f"  {percent(self.probability):>6}  alone: {alone}  {what}")

    def html(self) -> str:
        """The block beside its share, with what the model predicts from it alone."""
        says = f'<div class="muted">alone it predicts {_said(self.guesses)}</div>'
        what = "<b>null block</b> (no text)" if self.is_null else fragments.titled(self.title, html.escape(self.text))
        return fragments.row(self.probability, f"{what}{says}")


@dataclass(frozen=True, repr=False)
class Filled:
    """A masked sentence with predictions for its blanks."""

    parts: tuple[str, ...]
    """The text around the blanks, as far as it was read: one part more than blanks."""
    blanks: tuple[tuple[Guess, ...], ...]
    """The best wordpieces for each [MASK] by p(y|x), which is summed over all candidates."""
    null_share: float
    """p(null block | x)"""
    blocks: tuple[ReadBlock, ...]
    """The candidates by p(z|x), with the null block unless the run was trained without it."""
    null_guesses: tuple[Guess, ...]
    """What the encoder predicts without any text, a guess for each blank."""
    notes: tuple[str, ...]
    """What was cut or is unknown to the vocabulary."""
    source: Source | None = None

    @property
    def text(self) -> str:
        """The sentence with the best wordpiece in each blank."""
        return in_place(self.parts, [f"[{blank[0].wordpiece}]" for blank in self.blanks])

    def __repr__(self) -> str:
        lines = [self.text, *(f"p(y|x): {', '.join(map(repr, blank))}" for blank in self.blanks)]
        lines += [f"without any text: {', '.join(map(repr, self.null_guesses))}; p(null|x) {percent(self.null_share)}"]
        lines += ["p(z|x)", *map(repr, self.blocks), *self.notes]
        return "\n".join(lines + ([repr(self.source)] if self.source else []))

    def _repr_html_(self) -> str:
        return fragments.alone(self.html())

    def html(self) -> str:
        """The sentence with its blanks filled, and the predictions from each block alone and without any."""
        marked = [f"<mark>{html.escape(blank[0].wordpiece)}</mark>" for blank in self.blanks]
        parts = [f'<p class="said" dir="auto">{in_place(list(map(html.escape, self.parts)), marked)}</p>']
        parts += fragments.notes(self.notes)
        for number, blank in enumerate(self.blanks, 1):
            parts.append(f"<h4>Blank{f' {number}' if len(self.blanks) > 1 else ''}: p(y|x)</h4>")
            parts += [fragments.row(guess.probability, html.escape(guess.wordpiece)) for guess in blank]
        share = html.escape(percent(self.null_share))
        parts.append("<h4>Without any text</h4>")
        parts.append(
            f"<p>The null block alone predicts {_said(self.null_guesses)}; its share p(null|x) is {share}.</p>"
        )
        parts += ["<h4>Retrieved blocks: p(z|x)</h4>", *(block.html() for block in self.blocks)]
        return fragments.frame([*parts, self.source.html() if self.source else ""])


def in_place(parts: Sequence[str], wordpieces: Sequence[str]) -> str:
    """The sentence with its wordpieces between the parts; one that continues a word joins the blank before it.

    Args:
        wordpieces: each within marks of any kind, such as `[##s]` or `<mark>##s</mark>`.
    """
    text = parts[0]
    for wordpiece, part in zip(wordpieces, parts[1:], strict=True):
        start, is_rest, word = wordpiece.partition("##")
        if is_rest and start in ("[", "<mark>"):
            text, wordpiece = text.rstrip(), start + word
        text += wordpiece + part
    return text


def _said(guesses: Sequence[Guess]) -> str:
    """A wordpiece for each blank, with its probability."""
    shares = ((html.escape(guess.wordpiece), html.escape(percent(guess.probability))) for guess in guesses)
    return ", ".join(f"<b>{wordpiece}</b> ({share})" for wordpiece, share in shares)
