"""Text files are UTF-8 whatever the locale: no call leaves the encoding to it."""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).resolve().parents[1] / "realm_jax"


def leaves_it_to_the_locale(call: ast.Call) -> bool:
    """Whether a call opens a text file without saying its encoding."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
    if any(keyword.arg in ("encoding", None) for keyword in call.keywords):
        return False
    if name == "read_text":
        return not call.args
    if name == "write_text":
        return isinstance(call.func, ast.Attribute) and len(call.args) < 2
    texts = [a.value for a in (*call.args, *(k.value for k in call.keywords)) if isinstance(a, ast.Constant)]
    modes = [text for text in texts if isinstance(text, str) and set(text) <= set("rwaxbt+") and text]
    is_builtin = isinstance(call.func, ast.Name) and name == "open"
    return name == "open" and (is_builtin or bool(modes)) and not any("b" in mode for mode in modes)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("file.read_text()", True),
        ('file.read_text(encoding="utf-8")', False),
        ("file.write_text(text)", True),
        ("write_text(file, text)", False),
        ("open(file)", True),
        ('open(file, "rb")', False),
        ('file.open("a")', True),
        ("Corpus.open(folder)", False),
    ],
)
def test_the_rule(code, expected):
    assert leaves_it_to_the_locale(ast.parse(code).body[0].value) == expected


def test_every_text_file_has_an_encoding():
    found = [
        f"{file.relative_to(PACKAGE)}:{node.lineno}"
        for file in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and leaves_it_to_the_locale(node)
    ]
    assert not found
