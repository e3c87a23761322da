"""Pieces of HTML that results are shown with, on the demo's page and in notebooks. Plain texts are escaped here."""

import html
from collections.abc import Iterable, Sequence

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
.realm figure { margin: 0; max-width: 36rem } .realm figcaption { font-weight: 600; font-size: 14px }
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
    """A part with its style, for a page that does not have it, such as a notebook."""
    return f'<style>{STYLE}.realm {{ {_COLOURS} }}</style><div class="realm">{part}</div>'


def frame(parts: Iterable[str]) -> str:
    """Joins parts of the page, which are HTML."""
    return f'<div class="realm">{"".join(parts)}</div>'


def refused(message: str) -> str:
    """Why there is no answer."""
    return frame([f'<p class="refused">{html.escape(message)}</p>'])


def row(share: float, content: str) -> str:
    """A share as number and bar, beside HTML."""
    bar = f'<i><b style="width:{100 * share:.2f}%"></b></i>'
    bar = f'<div class="bar"><span>{html.escape(percent(share))}</span>{bar}</div>'
    return f'<div class="row">{bar}<div dir="auto">{content}</div></div>'


def scored(score: float, content: str) -> str:
    """A retrieval score, which is no share, beside HTML."""
    return f'<div class="row"><div class="bar"><span>{score:.2f}</span></div><div dir="auto">{content}</div></div>'


def marked(text: str, start: int, limit: int) -> str:
    """A text with the characters [start, limit) highlighted."""
    before, span, after = (html.escape(part) for part in (text[:start], text[start:limit], text[limit:]))
    return f"{before}<mark>{span}</mark>{after}"


def titled(title: str, content: str) -> str:
    """HTML after its title, which is plain text."""
    return f"<b>{html.escape(title)}</b> {content}"


def notes(texts: Sequence[str]) -> list[str]:
    """What was cut or is unknown."""
    return [f'<p class="note muted">{html.escape(text)}</p>' for text in texts]


def percent(share: float) -> str:
    """A share for people, as plain text; small ones are not shown as none."""
    return "<0.1%" if 0 < share < 0.0005 else f"{100 * share:.1f}%"
