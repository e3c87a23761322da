"""Every message on the page is one that the source can print."""

import ast
import re

from documented import REPOSITORY

PAGE = REPOSITORY / "docs" / "troubleshooting.md"


def templates() -> list[str]:
    """All strings of the package, with … for what is filled in."""
    found = []
    for file in (REPOSITORY / "realm_jax").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "…" for part in node.values]
                found.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def messages() -> list[str]:
    return [re.sub(r"\s+", " ", m) for m in re.findall(r"\*\*`([^`]+)`\*\*", PAGE.read_text())]


def test_every_message_exists():
    known = templates()
    assert len(messages()) > 25
    unknown = []
    for message in messages():
        pieces = [piece.strip() for piece in message.split("…") if piece.strip()]
        pattern = re.compile(".*".join(map(re.escape, pieces)), re.S)
        if not any(pattern.search(template) for template in known):
            unknown.append(message)
    assert unknown == []
