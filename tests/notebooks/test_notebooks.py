"""What holds for every notebook without running it: in step with its source, stripped, short, links and forms right."""

import ast
import json
import pathlib
import re
import runpy
import sys

import jupytext
import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests" / "docs"))

from documented import commands  # noqa: E402

FOLDER = REPOSITORY / "notebooks"
PAIR = runpy.run_path(str(FOLDER / "pair.py"))
SOURCES = sorted(FOLDER.glob("[0-9]*.py"))
NAMES = [source.stem for source in SOURCES]
MOST_CELLS = 20
FORM = re.compile(r"^(\w+) = (.+?)  # @param (.+)$")
"""A variable, its default, and what Colab makes of it."""


@pytest.fixture(params=SOURCES, ids=NAMES)
def source(request) -> pathlib.Path:
    return request.param


def cells(source: pathlib.Path, kind: str = "") -> list[str]:
    notebook = json.loads(source.with_suffix(".ipynb").read_text())
    return ["".join(cell["source"]) for cell in notebook["cells"] if kind in ("", cell["cell_type"])]


def test_there_are_four():
    assert NAMES == [
        "01_quick_start",
        "02_your_own_corpus",
        "03_finetune_and_evaluate",
        "04_inspect_retrieval_and_swap_the_index",
    ]
    assert sorted(file.stem for file in FOLDER.glob("*.ipynb")) == NAMES


def test_it_is_in_step_with_its_source(source):
    assert source.with_suffix(".ipynb").read_text() == PAIR["rendered"](source), "run make notebooks"


def test_its_source_is_what_jupytext_would_write(source):
    notebook = jupytext.read(source.with_suffix(".ipynb"))
    again = jupytext.reads(jupytext.writes(notebook, fmt="py:percent"), fmt="py:percent")
    assert [cell.source for cell in again.cells] == [cell.source for cell in PAIR["read"](source).cells]


def test_it_is_stripped(source):
    for cell in json.loads(source.with_suffix(".ipynb").read_text())["cells"]:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None
        assert not set(cell["metadata"]) - {"lines_to_next_cell"}


def test_it_is_short(source):
    assert len(cells(source)) <= MOST_CELLS


def test_its_first_cell_says_what_it_is(source):
    title, badge, about, tested = cells(source, "markdown")[0].split("\n\n")
    assert re.fullmatch(r"# \S.*", title)
    url = f"https://colab.research.google.com/github/realm-jax/realm_jax/blob/main/notebooks/{source.stem}.ipynb"
    assert badge == f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({url})"
    assert "\n# " not in about and "Tested on" in tested


def test_links_to_the_repository_exist(source):
    text = "\n".join(cells(source))
    for path in re.findall(r"realm-jax/realm_jax/blob/main/([\w./-]+)", text):
        assert (REPOSITORY / path).is_file(), path


def test_every_step_is_introduced(source):
    kinds = [cell["cell_type"] for cell in json.loads(source.with_suffix(".ipynb").read_text())["cells"]]
    assert "code code code" not in " ".join(kinds)


def test_the_first_cell_is_the_same_file_in_all():
    for kind in ("markdown", "code"):
        number = int(kind == "markdown")  # after the title
        assert len({cells(source, kind)[number] for source in SOURCES}) == 1
    assert all(source.read_text().count("{set_up.py}") == 1 for source in SOURCES)
    assert "jax.devices()" in cells(SOURCES[0], "code")[0]


def test_it_imports_the_public_package_alone(source):
    code = "\n".join(re.sub(r"^!.*$", "", cell, flags=re.M) for cell in cells(source, "code"))
    nodes = list(ast.walk(ast.parse(code)))
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    assert not [node for node in nodes if isinstance(node, ast.ImportFrom)]
    assert {name for name in names if name.split(".")[0] not in sys.stdlib_module_names} == {"realm_jax"}


def test_its_forms_can_be_parsed(source):
    forms = [line for cell in cells(source, "code") for line in cell.splitlines() if "@param" in line]
    assert forms
    for line in forms:
        name, default, kind = FORM.match(line).groups()
        value = ast.literal_eval(default)
        options = re.match(r"\[.*?\]", kind)
        if options:
            assert value in ast.literal_eval(options[0]), name
        else:
            assert kind == '{type: "string"}' and isinstance(value, str), name


def test_nothing_of_the_package_is_defined_again(source):
    code = "\n".join(re.sub(r"^!.*$", "", cell, flags=re.M) for cell in cells(source, "code"))
    defined = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.FunctionDef | ast.ClassDef)]
    assert not defined


def test_its_commands_are_those_of_the_documentation(source):
    named = r"(?:^realm|-m realm_jax)[ .](\w+)"
    shown = {match[1] for command in commands() for match in re.finditer(named, command)}
    used = set(re.findall(named, "\n".join(cells(source, "code"))))
    assert used and used <= shown


def test_a_failed_command_stops_the_notebook(source):
    for cell in cells(source, "code"):
        lines = cell.splitlines()
        for line, following in zip(lines, [*lines[1:], ""], strict=True):
            if line.startswith("!") and "-m realm_jax" in line and "inspect" not in line:
                assert following.startswith("assert _exit_code == 0")
