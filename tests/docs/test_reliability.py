"""Every test that the page on reliability names exists, and so does every file that docs point to in the source."""

import ast
import re

import pytest
from documented import REPOSITORY, pages

PAGE = REPOSITORY / "docs" / "reliability.md"


def test_every_promise_names_tests_that_exist():
    tables = PAGE.read_text().split("| promise | shown by |\n|---|---|\n")[1:]
    promises = [line for table in tables for line in table.split("\n\n")[0].splitlines()]
    assert len(promises) > 20
    for promise in promises:
        named = re.findall(r"`(tests/[\w/.]+)::(\w+)`", promise)
        assert named, promise
        for file, test in named:
            tree = ast.parse((REPOSITORY / file).read_text())
            assert test in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}, f"{file}::{test}"


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.name)
def test_files_that_a_page_names_exist(page):
    named = re.findall(
        r"`((?:realm_jax|tests|experiments|benchmarks|launch|notebooks|docs)/[a-z\d_/.-]+\.[a-z]+)`", page.read_text()
    )
    assert [name for name in named if not (REPOSITORY / name).exists()] == []
