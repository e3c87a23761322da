"""HTML of the demo's answers. Every text that a user or a corpus brings is escaped here."""

import html
import time
from collections.abc import Sequence

from realm_jax.serve.results import NULL, Added, Answered, Filled, Guess, ReadBlock, Source, SpanAnswer

STYLE = """
.html-container { padding: 0 !important }
#fill, #ask, #add { width: fit-content; min-width: 9rem }
.realm { overflow-wrap: anywhere; line-height: 1.5; font-size: 15px }
.realm p { margin: .4em 0 }
.realm h4 { margin: 1.4em 0 .4em; font-size: 15px; font-weight: 600 }
.realm mark { background: color-mix(in srgb, var(--color-accent) 30%, transparent); color: inherit; padding: 0 .2em;
  border-radius: 3px }
.realm .said { font-size: 19px; line-height: 1.45; margin: .2em 0 .6em }
.realm .muted { color: color-mix(in srgb, var(--body-text-color) 72%, transparent); font-size: 13.5px }
.realm .muted code, .realm .muted b { color: inherit; font-size: inherit }
.realm .refused, .realm .note { border-left: 3px solid #b8860b; padding: .1em 0 .1em .7em }
.realm .row { display: grid; grid-template-columns: 11rem minmax(0, 1fr); gap: .2em 1rem; padding: .5em 0;
  border-top: 1px solid var(--border-color-primary) }
.realm .bar { display: flex; align-items: center; gap: .6em; font-variant-numeric: tabular-nums; height: 1.5em }
.realm .bar > span { flex: none; width: 3.8em; text-align: right; white-space: nowrap }
.realm .bar > i { flex: 1; height: .6em; border-radius: 3px; background: var(--border-color-primary); overflow: hidden }
.realm .bar > i > b { display: block; height: 100%; background: var(--color-accent) }
.realm .charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 22rem), 1fr)); gap: 1.2rem }
.realm figure { margin: 0 } .realm figcaption { font-weight: 600; font-size: 14px }
.realm svg { width: 100%; height: auto } .realm .scroll { overflow-x: auto }
.realm table { border-collapse: collapse; font-size: 13.5px; font-variant-numeric: tabular-nums }
.realm table, .realm tr { border: 0 !important }
.realm th, .realm td { padding: .3em 1.2em .3em 0 !important; text-align: right; white-space: nowrap;
  border: 0 !important; border-bottom: 1px solid var(--border-color-primary) !important }
.realm .left { text-align: left }
.realm iframe { width: 100%; height: 75vh; border: 1px solid var(--border-color-primary); border-radius: 6px }
@media (max-width: 640px) { .realm .row { grid-template-columns: minmax(0, 1fr) } .realm .bar > span { width: auto } }
"""
_COLOURS = "--color-accent: #2b83ba; --body-text-color: currentColor; --border-color-primary: #8884"  # else Gradio's


def alone(part: str) -> str:
    """A part with its style, for a page that is not the demo's: a notebook."""
    return f'<style>{STYLE}.realm {{ {_COLOURS} }}</style><div class="realm">{part}</div>'


def filled(found: Filled, source: Source) -> str:
    """A sentence with its blanks filled, what each block says, and what the encoder says without any."""
    parts = [f'<p class="said" dir="auto">{_in_place(found.parts, [blank[0] for blank in found.blanks])}</p>']
    parts += _notes(found.notes)
    for number, blank in enumerate(found.blanks, 1):
        parts.append(f"<h4>Blank{f' {number}' if len(found.blanks) > 1 else ''}: p(y|x)</h4>")
        parts += [_row(guess.probability, html.escape(guess.wordpiece)) for guess in blank]
    said = _said(found.null_guesses)
    parts.append("<h4>Without any text</h4>")
    parts.append(f"<p>The null block alone predicts {said}; its share p(null|x) is {percent(found.null_share)}.</p>")
    parts.append("<h4>Retrieved blocks: p(z|x)</h4>")
    parts += [_row(block.probability, _block(block)) for block in found.blocks]
    return _frame([*parts, _source(source)])


def answered(found: Answered, source: Source) -> str:
    """The answer in its block, then what the other blocks would answer."""
    if not found.answers:
        return _frame([*_notes(found.notes), "<p>No block was found to read.</p>", _source(source)])
    best, *others = found.answers
    parts = [f'<p class="said" dir="auto"><mark>{html.escape(best.answer)}</mark></p>']
    parts += [*_notes(found.notes), _row(best.probability, _highlighted(best))]
    if others:
        parts.append("<h4>Best answers of the other blocks</h4>")
        parts += [_row(other.probability, _highlighted(other)) for other in others]
    probability = "A probability is that of the span among all spans of all blocks that were read."
    return _frame([*parts, f'<p class="muted">{probability}</p>', _source(source)])


def added(found: Added, workdir: str) -> str:
    """What was added, and what can be done now."""
    blocks = "1 block" if found.blocks == 1 else f"{found.blocks} blocks"
    undo = f"realm update --workdir={workdir} --delete={found.source_id}"
    return _frame(
        [
            f"<p>Added as <code>{html.escape(found.source_id)}</code>: {blocks}, searchable after {found.seconds} s in "
            f"index version <code>{html.escape(found.version)}</code>. Now ask again.</p>",
            f'<p class="muted">To take it out: <code>{html.escape(undo)}</code></p>',
        ]
    )


def refused(message: str) -> str:
    """Why there is no answer."""
    return _frame([f'<p class="refused">{html.escape(message)}</p>'])


def status(workdir: str, filler: Source | None, answerer: Source | None, problem: str) -> str:
    """Where answers come from now."""
    parts = [f'<p class="muted">Workdir <code>{html.escape(workdir)}</code></p>']
    for what, source in (("Blanks", filler), ("Questions", answerer)):
        if source is not None:
            parts.append(_source(source, f"{what}: "))
    if problem:
        parts.append(f'<p class="refused">What is newer cannot be loaded: {html.escape(problem)}</p>')
    return _frame(parts)


def percent(share: float) -> str:
    """A share for people; small ones are not shown as none."""
    return "&lt;0.1%" if 0 < share < 0.0005 else f"{100 * share:.1f}%"


def _frame(parts: Sequence[str]) -> str:
    return f'<div class="realm">{"".join(parts)}</div>'


def _row(share: float, content: str) -> str:
    bar = f'<i><b style="width:{100 * share:.2f}%"></b></i>'
    bar = f'<div class="bar"><span>{percent(share)}</span>{bar}</div>'
    return f'<div class="row">{bar}<div dir="auto">{content}</div></div>'


def _block(block: ReadBlock) -> str:
    says = f'<div class="muted">alone it predicts {_said(block.guesses)}</div>'
    if block.block == NULL:
        return f"<b>null block</b> (no text){says}"
    return f"<b>{html.escape(block.title)}</b> {html.escape(block.text)}{says}"


def _highlighted(answer: SpanAnswer) -> str:
    start, limit = answer.span
    before, span, after = (
        html.escape(part) for part in (answer.text[:start], answer.text[start:limit], answer.text[limit:])
    )
    return f"<b>{html.escape(answer.title)}</b> {before}<mark>{span}</mark>{after}"


def _in_place(parts: Sequence[str], guesses: Sequence[Guess]) -> str:
    """The sentence with marked wordpieces; one that continues a word is joined to the blank before it."""
    text = html.escape(parts[0])
    for guess, part in zip(guesses, parts[1:], strict=True):
        piece = guess.wordpiece
        if piece.startswith("##"):
            text, piece = text.rstrip(), piece.removeprefix("##")
        text += f"<mark>{html.escape(piece)}</mark>{html.escape(part)}"
    return text


def _said(guesses: Sequence[Guess]) -> str:
    """One wordpiece a blank, with its probability."""
    return ", ".join(f"<b>{html.escape(guess.wordpiece)}</b> ({percent(guess.probability)})" for guess in guesses)


def _notes(notes: Sequence[str]) -> list[str]:
    return [f'<p class="note muted">{html.escape(note)}</p>' for note in notes]


def _source(source: Source, what: str = "From ") -> str:
    where = f"{what}{html.escape(source.params)} · index version <code>{html.escape(source.version)}</code>"
    age = "" if source.age_steps is None else f", age {source.age_steps:,} steps"
    facts = f"weights of step {source.version_step:,}{age}, built {_ago(time.time() - source.built)}"
    return f'<p class="muted">{where}: {facts}, {source.blocks:,} blocks</p>'


def _ago(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{max(seconds, 0):.0f} s ago"
