"""Regular expressions as answers: everything that reads, finds or scores with them compiles them here."""

import re

import regex

FLAGS = regex.IGNORECASE | regex.UNICODE | regex.MULTILINE
LONGEST = 20_000  # characters: trying an expression has a time limit, compiling it has none
WRITTEN_OUT = 100_000  # characters once its repeats are written out, as the compiler does: 300 bytes of memory each
MALFORMED = (regex.error, ValueError, RecursionError)
"""What `compiled` raises for flags that exclude each other, a thousand parentheses, or a text that is no expression."""

_TOKEN = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\]){0,200}\]|\{\d+|.", re.DOTALL)


def compiled(pattern: str) -> regex.Pattern:
    """Compiles a pattern. Raises one of MALFORMED; ValueError if it is too long."""
    if len(pattern) > LONGEST:
        raise ValueError(f"has {len(pattern):,} characters, more than {LONGEST:,}")
    if _written_out(pattern) > WRITTEN_OUT:
        raise ValueError(f"repeats more than {WRITTEN_OUT:,} characters")
    return regex.compile(pattern, FLAGS)


def _written_out(pattern: str) -> int:
    """Estimates a pattern's length once `x{1000}` is a thousand x, inwards too. Raises ValueError for a huge number."""
    groups, last = [0], 0
    for token in _TOKEN.findall(pattern):
        if token == "(":
            groups.append(0)
            continue
        if token == ")" and len(groups) > 1:
            last = groups.pop()
        elif token[0] == "{" and len(token) > 1:
            last *= max(1, int(token[1:]) - 1)  # beside the one that was counted
        else:
            last = 1
        groups[-1] += last
    return sum(groups)
