"""Benchmarks run rarely: what they name of the package is there, though nobody has run them since it moved."""

import ast
import importlib
import pathlib
import types

import pytest

BENCHMARKS = sorted((pathlib.Path(__file__).resolve().parents[2] / "benchmarks").glob("*.py"))


def modules_and_missing(tree: ast.Module) -> tuple[dict[str, types.ModuleType], list[str]]:
    """Our modules by the names that a file gives them, and what it imports of us in vain."""
    modules, missing = {}, []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == "realm_jax":
            for alias in node.names:
                try:
                    found = getattr(importlib.import_module(node.module), alias.name, None)
                    found = found or importlib.import_module(f"{node.module}.{alias.name}")
                except ModuleNotFoundError:
                    missing.append(f"{node.module}.{alias.name}")
                    continue
                if isinstance(found, types.ModuleType):
                    modules[alias.asname or alias.name] = found
    return modules, missing


def missing_names(source: str) -> list[str]:
    """Names of the package that a file imports, or takes from an imported module, and that are not there."""
    tree = ast.parse(source)
    modules, missing = modules_and_missing(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            if not hasattr(modules[node.value.id], node.attr):
                missing.append(f"{node.value.id}.{node.attr}")
    return missing


@pytest.mark.parametrize("file", BENCHMARKS, ids=lambda file: file.name)
def test_what_it_names_is_there(file):
    assert missing_names(file.read_text()) == []


def test_a_name_that_moved_is_found():
    imports = ["from realm_jax import parallel, nowhere", "from realm_jax.config import Config, Gone"]
    source = [*imports, "parallel.shard", "parallel.gone"]
    assert missing_names("\n".join(source)) == ["realm_jax.nowhere", "realm_jax.config.Gone", "parallel.gone"]
