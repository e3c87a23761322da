"""Every array in a public signature has its shape, as jaxtyping writes it: a reader need not look for it elsewhere."""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).resolve().parents[1] / "realm_jax"
BARE = {"np.ndarray", "jax.Array", "Array", "ndarray"}
WITHOUT_SHAPE = {"..."}  # "" is the shape of a scalar

FILES = sorted(PACKAGE.rglob("*.py"))


def bare_arrays(annotation: ast.expr | None) -> int:
    """How many arrays of an annotation say nothing of their shape."""
    if annotation is None:
        return 0
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        try:
            return bare_arrays(ast.parse(annotation.value, mode="eval").body)
        except SyntaxError:  # a shape
            return 0
    if ast.unparse(annotation) in BARE:
        return 1
    if isinstance(annotation, ast.Subscript) and isinstance(annotation.slice, ast.Tuple):
        array, *shape = annotation.slice.elts
        if ast.unparse(array) in BARE and len(shape) == 1 and isinstance(shape[0], ast.Constant):
            return int(str(shape[0].value).strip() in WITHOUT_SHAPE)
    return sum(bare_arrays(child) for child in ast.iter_child_nodes(annotation) if isinstance(child, ast.expr))


def unshaped(tree: ast.Module) -> list[str]:
    """`line name` of each array without a shape in what others may call."""
    found = []
    owners = [tree, *(node for node in tree.body if isinstance(node, ast.ClassDef) and not node.name.startswith("_"))]
    for owner in owners:
        for node in owner.body:
            if isinstance(node, ast.FunctionDef) and (not node.name.startswith("_") or node.name == "__init__"):
                arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
                number = sum(bare_arrays(argument.annotation) for argument in arguments) + bare_arrays(node.returns)
                found += [f"{node.lineno} {node.name}"] * number
            elif isinstance(node, ast.AnnAssign) and owner is not tree:
                found += [f"{node.lineno} {ast.unparse(node.target)}"] * bare_arrays(node.annotation)
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_arrays_have_shapes(file):
    assert unshaped(ast.parse(file.read_text())) == []


@pytest.mark.parametrize(
    ("annotation", "number"),
    [
        ("np.ndarray", 1),
        ("tuple[jax.Array, dict[str, np.ndarray]]", 2),
        ("'np.ndarray | None'", 1),
        ("Int[np.ndarray, '...']", 1),
        ("Float[Array, 'batch dim']", 0),
        ("tuple[Int[np.ndarray, ' blocks'], Float[np.ndarray, '... dim']]", 0),
        ("Float[Array, '']", 0),
        ("list[str]", 0),
    ],
)
def test_what_counts_as_a_shape(annotation, number):
    assert bare_arrays(ast.parse(annotation, mode="eval").body) == number
