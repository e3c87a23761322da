"""Writes the tables of docs/formats.md from the code that recognises the formats, so that none is typed.

python docs/formats.py
python docs/formats.py --check      (for `make lint`: only compares)
"""

import importlib
import pathlib
import re
import sys
from collections.abc import Iterable
from typing import Any

PAGE = pathlib.Path(__file__).with_name("formats.md")
TABLES = {
    "corpus formats": ("realm_jax.data.sources.formats", "FORMS"),
    "question formats": ("realm_jax.data.questions.question_formats", "FORMATS"),
}
HEAD = "| name | what it is | one, for example | what it becomes |\n|---|---|---|---|\n"


def main() -> None:
    text = PAGE.read_text()
    made = page(text)
    if "--check" not in sys.argv:
        PAGE.write_text(made)
    elif made != text:
        sys.exit(f"{PAGE.name} is out of date: run python docs/formats.py")


def page(text: str) -> str:
    """The page with fresh tables between its marks."""
    for name, (module, attribute) in TABLES.items():
        fresh = table(getattr(importlib.import_module(module), attribute))
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        if text.count(begin) != 1 or text.count(end) != 1:
            sys.exit(f"{PAGE.name} needs one {begin.strip()} and one {end}")
        before, rest = text.split(begin)
        text = before + begin + fresh + end + rest.split(end)[1]
    return text


def table(forms: Iterable[Any]) -> str:
    """A line for each: objects with `name`, `form`, `example` (as it is) and `becomes`."""
    return HEAD + "".join(
        f"| {_cell(form.name)} | {_cell(form.form)} | {_code(form.example)} | {_cell(form.becomes)} |\n"
        for form in forms
    )


def _cell(text: str) -> str:
    """Text outside of code shows `<doc>` and the like as they are."""
    pieces = re.split(r"(`[^`]*`)", " ".join(text.split()).replace("|", "\\|"))
    return "".join(piece if piece.startswith("`") else piece.replace("<", "&lt;") for piece in pieces)


def _code(text: str) -> str:
    return "`" + " ".join(text.split()).replace("`", "'").replace("|", "\\|") + "`"


if __name__ == "__main__":
    main()
