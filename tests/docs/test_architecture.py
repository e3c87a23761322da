"""The page on the architecture: what its walks name exists, it has every room, and its picture is of these imports."""

import ast
import dataclasses
import re
import subprocess
import sys

import pytest
from documented import REPOSITORY

from realm_jax.config import Config

PAGE = (REPOSITORY / "docs" / "architecture.md").read_text()
QUESTIONS = ("the loss", "the null block enter", "the index builder dies", "a new search go")


def walk(question: str) -> str:
    """The section that answers it."""
    (section,) = (part for part in PAGE.split("\n## ") if question in part.splitlines()[0])
    return section


def names(section: str) -> list[tuple[str, str]]:
    """(file, name) of each `file::name`; `::name` is in the file named before it."""
    found, file = [], ""
    for named, name in re.findall(r"`([\w/.]*)::([\w.]+)`", section):
        file = named or file
        found.append((file, name))
    return found


def has(file: str, name: str) -> bool:
    """Whether a file defines a function or class, or with a dot the method of a class."""
    body = ast.parse((REPOSITORY / file).read_text()).body
    for part in name.split("."):
        inner = [node for node in body if getattr(node, "name", None) == part]
        if not inner:
            return False
        body = inner[0].body
    return True


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_walk_names_what_exists(question):
    named = names(walk(question))
    assert len(named) >= 3 and any(file.startswith("realm_jax/") for file, _ in named)
    assert [f"{file}::{name}" for file, name in named if not has(file, name)] == []


def test_settings_of_the_walks_exist():
    known = {f"{section.name}.{field.name}" for section in dataclasses.fields(Config) for field in fields_of(section)}
    named = set(re.findall(r"`((?:pretrain|index|model|ict|corpus)\.\w+)`", PAGE)) - {"index.py"}
    assert named and named <= known


def fields_of(section: dataclasses.Field) -> tuple[dataclasses.Field, ...]:
    return dataclasses.fields(section.type) if dataclasses.is_dataclass(section.type) else ()


def test_the_page_has_every_room():
    rooms = {file.parent.name for file in (REPOSITORY / "realm_jax").glob("*/__init__.py")} - {"experiments"}
    assert [room for room in rooms if f"`{room}/`" not in PAGE] == []


def test_the_picture_is_of_the_imports():
    command = [sys.executable, "docs/architecture.py", "--check"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
