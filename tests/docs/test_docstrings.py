"""Docstrings say what ruff (pyproject.toml) cannot ask for: the errors that a function raises, the shapes of arrays."""

import ast
import pathlib
import re
from collections.abc import Iterator

PACKAGE = pathlib.Path(__file__).resolve().parents[2] / "realm_jax"
WITH_SHAPES = ("models", "losses", "scores", "index")
BARE_ARRAYS = {"Array", "jax.Array", "np.ndarray"}


def public_functions() -> Iterator[tuple[str, ast.FunctionDef, str]]:
    """(place, function, its docstring with that of its class) of every function that may be called from elsewhere."""
    for file in sorted(PACKAGE.rglob("*.py")):
        tree = ast.parse(file.read_text())
        owners = [(tree, "")] + [(node, ast.get_docstring(node) or "") for node in tree.body if is_class(node)]
        for owner, said in owners:
            for node in owner.body:
                if isinstance(node, ast.FunctionDef) and (not node.name.startswith("_") or node.name == "__init__"):
                    yield f"{file.relative_to(PACKAGE)}:{node.lineno} {node.name}", node, said + doc(node)


def is_class(node: ast.stmt) -> bool:
    return isinstance(node, ast.ClassDef) and not node.name.startswith("_")


def doc(node: ast.FunctionDef) -> str:
    return "\n" + (ast.get_docstring(node) or "")


def own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Everything inside, without nested functions and what is caught again."""
    caught = node.body if isinstance(node, ast.Try) and node.handlers else []
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.Lambda) and child not in caught:
            yield child
            yield from own_nodes(child)


def raised(node: ast.FunctionDef) -> set[str]:
    """Names of the exceptions that the function itself raises."""
    calls = [n.exc for n in own_nodes(node) if isinstance(n, ast.Raise) and isinstance(n.exc, ast.Call)]
    return {ast.unparse(call.func).split(".")[-1] for call in calls}


def test_there_is_something_to_check():
    functions = list(public_functions())
    assert len(functions) > 300 and sum(bool(raised(node)) for _, node, _ in functions) > 50


def test_errors_that_a_function_raises_are_named():
    missing = [
        f"{place}: {error}"
        for place, node, said in public_functions()
        for error in sorted(raised(node) - {"NotImplementedError", "AssertionError", "SystemExit"})
        if error not in said and node.name != "main"
    ]
    assert missing == []


def test_arrays_without_a_shape_in_their_type_have_it_in_words():
    missing = []
    for place, node, said in public_functions():
        arguments = [*node.args.args, *node.args.kwonlyargs]
        types = {a.arg: a.annotation for a in arguments} | {"its result": node.returns}
        bare = [name for name, kind in types.items() if kind and ast.unparse(kind) in BARE_ARRAYS and name != "rng"]
        if place.startswith(WITH_SHAPES) and bare and not re.search(r"\[.*\]|scalar|any shape|sum|count", said):
            missing.append(f"{place}: {', '.join(bare)}")
    assert missing == []
