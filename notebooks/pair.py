"""Writes each notebook from its source: `01_quick_start.py` becomes `01_quick_start.ipynb`, without outputs.

    python notebooks/pair.py            (`make notebooks` does the same)

The sources are what is edited, in jupytext's percent format, and `set_up.py`, whose cells all notebooks begin with. A
changed .ipynb comes back into its source by `jupytext --to py:percent`. The same source gives the same bytes.
"""

import json
import pathlib
import re

import jupytext
import nbformat

FOLDER = pathlib.Path(__file__).resolve().parent


def sources() -> list[pathlib.Path]:
    """The notebooks' sources, in their order."""
    return sorted(FOLDER.glob("[0-9]*.py"))


def read(source: pathlib.Path) -> nbformat.NotebookNode:
    """The notebook of a source; a cell `{FILE}` stands for the cells of that file, which several notebooks share."""
    notebook, cells = jupytext.read(source), []
    for cell in notebook.cells:
        is_shared = re.fullmatch(r"{(\w+\.py)}", cell.source)
        cells += jupytext.read(FOLDER / is_shared[1]).cells if is_shared else [cell]
    notebook.cells = cells
    return notebook


def rendered(source: pathlib.Path) -> str:
    """The notebook of a source, as the text of its file."""
    notebook = read(source)
    for number, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{number:02d}"  # jupytext draws a new one every time
    del notebook.metadata["jupytext"]["text_representation"]  # of the source
    nbformat.validate(notebook)
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    """Writes what is not in step, and says so."""
    for source in sources():
        target, text = source.with_suffix(".ipynb"), rendered(source)
        if not target.exists() or target.read_text() != text:
            target.write_text(text)
            print(f"written: {target.relative_to(FOLDER.parent)}")


if __name__ == "__main__":
    main()
