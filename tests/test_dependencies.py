"""setup.cfg declares what the package imports, and nothing that it does not."""

import ast
import configparser
import importlib.metadata
import pathlib
import re
import sys

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
FILES = sorted((REPOSITORY / "realm_jax").rglob("*.py"))
# Only with an extra: files that import its packages on top.
OF_EXTRAS = ("data/build/mediawiki.py", "data/build/wikitext.py", "serve/")
# Declared, but never imported: each with what it is there for.
NOT_IMPORTED = {
    "transformers": "loads what `realm convert` writes, as its users do; we read its configs and tokenizer files",
    "gcsfs": "fsspec finds it where a path begins with gs://",
    "importlib-resources": "tensorflow-datasets 4.9 imports it, but requires it only before Python 3.9",
}

KNOWN = importlib.metadata.packages_distributions()  # reading all of them takes a second


def requirements(text: str) -> set[str]:
    """Distributions that a block of setup.cfg names, in lower case with hyphens."""
    lines = (line.strip() for line in text.splitlines())
    return {normal(re.split(r"[\[<>=;! ]", line)[0]) for line in lines if line and not line.startswith("#")}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared() -> tuple[set[str], set[str]]:
    """(what every installation has, what users' extras add)."""
    settings = configparser.ConfigParser()
    settings.read(REPOSITORY / "setup.cfg")
    extras = settings["options.extras_require"]
    of_users = set().union(*(requirements(extras[name]) for name in extras if name not in ("dev", "docs", "notebooks")))
    return requirements(settings["options"]["install_requires"]), of_users - {"realm-jax"}


def imported(file: pathlib.Path, *, on_top: bool) -> set[str]:
    """Foreign packages that a file imports."""
    tree = ast.parse(file.read_text())
    found = set()
    for node in tree.body if on_top else ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - {"realm_jax"}


def distributions(packages: set[str]) -> dict[str, set[str]]:
    """Who may provide a package that is imported."""
    return {package: {normal(name) for name in KNOWN.get(package, [package])} for package in packages}


def test_what_is_imported_on_top_is_always_installed():
    always, of_extras = declared()
    for file in FILES:
        is_optional = str(file.relative_to(REPOSITORY / "realm_jax")).startswith(OF_EXTRAS)
        for package, names in distributions(imported(file, on_top=True)).items():
            allowed = always | of_extras | {"starlette"} if is_optional else always  # gradio is made of starlette
            assert names & allowed, f"{file}: imports {package}, of {names}, which setup.cfg does not require"


def test_what_is_imported_anywhere_is_declared():
    allowed = set().union(*declared()) | {"starlette"}
    for file in FILES:
        for package, names in distributions(imported(file, on_top=False)).items():
            assert names & allowed, f"{file}: imports {package}, of {names}, which no part of setup.cfg names"


def test_what_is_declared_is_imported():
    packages = set().union(*(imported(file, on_top=False) for file in FILES))
    used = set().union(*distributions(packages).values())
    assert set().union(*declared()) - used - {"libtpu"} == set(NOT_IMPORTED)
