"""Regular expressions as answers: one way to compile them, whatever reads, finds or scores with them."""

import regex

FLAGS = regex.IGNORECASE | regex.UNICODE | regex.MULTILINE
LONGEST = 20_000  # characters: trying an expression has a time limit, compiling it has none
MALFORMED = (regex.error, ValueError, RecursionError)
"""What `compiled` raises for flags that exclude each other, a thousand parentheses, or a text that is no expression."""


def compiled(pattern: str) -> regex.Pattern:
    """The expression that a pattern stands for. Raises one of MALFORMED; ValueError if it is too long."""
    if len(pattern) > LONGEST:
        raise ValueError(f"has {len(pattern):,} characters, more than {LONGEST:,}")
    return regex.compile(pattern, FLAGS)
