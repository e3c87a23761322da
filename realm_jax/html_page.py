"""A self-contained HTML page: its frame and its tables. It loads nothing.

Its colours follow the reader's dark or light mode. Texts are escaped here or by the caller, as each function says.
"""

import html
import string
from collections.abc import Iterable, Sequence

_FRAME = string.Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title>
<style>
:root { color-scheme: light dark }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 50rem; margin: auto; padding: 1rem; overflow-wrap: anywhere }
h1, h2, h3 { line-height: 1.2 }
.scroll { overflow-x: auto; margin: 1rem 0 }
table { border-collapse: collapse; font-size: .9rem; overflow-wrap: normal }
th, td { padding: .2rem .6rem; text-align: right; border-bottom: 1px solid #8886 }
td { white-space: nowrap }
.left { text-align: left; white-space: normal }
figure { margin: 1rem 0 }
svg { width: 100%; max-width: 36rem; height: auto }
blockquote { margin: 0; padding-left: .8rem; border-left: 3px solid #8888 }
mark { background: #fc08; color: inherit }
</style>
</head>
<body>
$body
</body>
</html>
""")


def frame(title: str, parts: Iterable[str]) -> str:
    """The whole page around `parts`, which are HTML; the title is plain text."""
    return _FRAME.substitute(title=html.escape(title), body="\n".join(parts))


def table(header: Sequence[str], rows: Iterable[Sequence[str]], words: Sequence[str] = ()) -> str:
    """A table of plain texts; columns named in `words` are aligned to the left, numbers to the right."""
    sides = [" class=left" if name in words else "" for name in header]

    def row(cell: str, texts: Sequence[str]) -> str:
        cells = (f"<{cell}{side}>{html.escape(text)}</{cell}>" for side, text in zip(sides, texts, strict=True))
        return f"<tr>{''.join(cells)}</tr>"

    lines = ["<div class=scroll><table>", row("th", header), *(row("td", texts) for texts in rows), "</table></div>"]
    return "\n".join(lines)
