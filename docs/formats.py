"""Writes the tables of docs/formats.md from the code that recognises the formats, so that none is typed.

python docs/formats.py
python docs/formats.py --check      (for `make lint`: only compares)
"""

import importlib
import pathlib
import re
from collections.abc import Iterable
from typing import Any

from marked import filled, write_or_check

PAGE = pathlib.Path(__file__).with_name("formats.md")
TABLES = {
    "corpus formats": ("realm_jax.data.sources.formats", "FORMS"),
    "question formats": ("realm_jax.data.questions.question_formats", "FORMATS"),
}
HEAD = "| name | what it is | one, for example | what it becomes |\n|---|---|---|---|\n"


def main() -> None:
    write_or_check(PAGE, page(PAGE.read_text()))


def page(text: str) -> str:
    """The page with fresh tables between its marks."""
    forms = {name: getattr(importlib.import_module(module), list_) for name, (module, list_) in TABLES.items()}
    return filled(PAGE, text, {name: table(of) for name, of in forms.items()})


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
