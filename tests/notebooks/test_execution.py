"""Every cell of every notebook runs, in smoke mode: as documented, outside of the repository, with few steps.

02 to 04 come after 01 and take what it made, as a user's would; 03 and 04 make a run where there is none.
"""

import os
import pathlib
import re

import nbclient
import nbformat
import pytest
from test_notebooks import SOURCES, cells

from realm_jax.data.corpus import Corpus

TIMEOUT_S = 1200


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    """Where the kernels run; temporary files lie in it, too."""
    return tmp_path_factory.mktemp("notebooks")


@pytest.fixture(scope="module")
def runs(folder) -> pathlib.Path:
    return folder / "realm_jax_smoke"


def environment(folder: pathlib.Path, cache: pathlib.Path) -> dict[str, str]:
    """One CPU device, no network needed, nothing written outside of the folder."""
    changed = {"REALM_JAX_SMOKE": "1", "JAX_NUM_CPU_DEVICES": "1", "HF_HUB_OFFLINE": "1", "REALM_JAX_CACHE": str(cache)}
    changed |= {name: str(folder) for name in ("TMPDIR", "IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR")}
    return os.environ | changed


@pytest.fixture(scope="module")
def execute(folder, cache):
    """Runs a notebook to its end; a cell that fails is an error."""

    def run(name: str) -> nbformat.NotebookNode:
        (source,) = (source for source in SOURCES if source.stem.startswith(name))
        notebook = nbformat.read(source.with_suffix(".ipynb"), as_version=4)
        client = nbclient.NotebookClient(
            notebook, timeout=TIMEOUT_S, kernel_name="python3", resources={"metadata": {"path": str(folder)}}
        )
        client.execute(env=environment(folder, cache))
        assert "os.fork" not in "".join(said(notebook))  # JAX's warning
        return notebook

    return run


def said(notebook: nbformat.NotebookNode) -> list[str]:
    """What each code cell shows: what was printed, then HTML or Markdown."""
    shown = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            parts = [output.text for output in cell.outputs if output.output_type == "stream"]
            data = [output.data for output in cell.outputs if output.output_type == "execute_result"]
            parts += [of.get("text/html") or of.get("text/markdown") or of["text/plain"] for of in data]
            shown.append("\n".join(parts))
    return shown


def that_has(notebook: nbformat.NotebookNode, text: str) -> str:
    """What the one cell shows whose code has the text."""
    codes = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    (found,) = (shown for code, shown in zip(codes, said(notebook), strict=True) if text in code)
    return found


@pytest.mark.slow
def test_quick_start(execute, runs):
    notebook = execute("01")
    assert "CpuDevice" in that_has(notebook, "jax.devices()")
    assert "next: realm finetune" in that_has(notebook, "-m realm_jax run")
    assert "plain recall@1" in that_has(notebook, "run.report")
    curves = that_has(notebook, "run.curves()")
    assert curves.count("<svg") == curves.count("<h4>") >= 5 and "Recall by index version" in curves
    filled = that_has(notebook, "run.fill(")
    assert "Without any text" in filled and "index version" in filled
    assert (runs / "mini" / "summary.json").is_file()


@pytest.mark.slow
def test_your_own_corpus(execute, runs):
    notebook = execute("02")
    texts = sorted((runs / "my_texts").glob("*.md"))
    assert f": {len(texts)} records" in that_has(notebook, "texts(TEXTS)") and len(texts) == 427
    assert "blocks" in that_has(notebook, "realm_jax show")
    assert that_has(notebook, "Three masked sentences").count("answer: ") == 3
    corpus = Corpus.open(runs / "mine" / "corpus")
    titles = {corpus.block(block).title for block in range(corpus.num_blocks)}
    assert titles == {text.read_text().partition("\n")[0].removeprefix("# ") for text in texts}
    assert "Without any text" in that_has(notebook, "run.fill(")


@pytest.mark.slow
def test_finetune_and_evaluate(execute, runs):
    notebook = execute("03")
    assert "finetune/cloze" in that_has(notebook, "run.curves()")
    assert "report.html" in that_has(notebook, "-m realm_jax eval")
    report = that_has(notebook, "# the newest")
    assert "BM25" in report and "most frequent training answer" in report and "<svg" in report
    assert that_has(notebook, ".predictions[:10]").count("<mark>") == 10
    assert "<mark>" in that_has(notebook, "run.ask")


@pytest.mark.slow
def test_inspect_and_swap_the_index(execute, runs):
    notebook = execute("04")
    assert "blocks" in that_has(notebook, '"cpu")\nrun.index.versions()')
    assert "<svg" in that_has(notebook, 'run.curves("recall")')
    assert that_has(notebook, "run.examples()").count("answer: ") == 3
    before, after = that_has(notebook, "as before:"), that_has(notebook, "# with the new")
    assert "added larks" in that_has(notebook, "run.add(")
    assert "(null block)" in before and "Lark House:" not in before
    # Weights of 20 steps do not rank the new document among the few blocks that are read; the index has it.
    (had,), (has,) = ({int(n.replace(",", "")) for n in re.findall(r"([\d,]+) blocks", of)} for of in (before, after))
    assert has == had + 1
    versions = set(re.findall(r"step-\d{8}-\w{6}", before))
    (newest,) = set(re.findall(r"step-\d{8}-\w{6}", after))
    assert len(versions) == 2 and newest not in versions


@pytest.mark.slow
def test_a_failing_command_ends_it(folder, cache):
    set_up = cells(SOURCES[0], "code")[0]
    command = "!{PYTHON} -m realm_jax run --config=nothing.py\nassert _exit_code == 0, 'its last line says why'"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in (set_up, command)])
    client = nbclient.NotebookClient(notebook, timeout=TIMEOUT_S, kernel_name="python3")
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="its last line says why"):
        client.execute(env=environment(folder, cache))
    assert "error: no experiment file nothing.py" in said(notebook)[-1]


@pytest.mark.slow
def test_an_old_jax_ends_it_with_a_request_for_a_restart(folder, cache):
    pretend = "import importlib.metadata, subprocess, types\nold = types.SimpleNamespace(name='jax', version='0.6.2')\n"
    pretend += "importlib.metadata.distributions = lambda: [old]\n"
    pretend += "subprocess.run = lambda *_, **__: types.SimpleNamespace(returncode=0)"  # pip
    code = [pretend, cells(SOURCES[0], "code")[0], "print('not reached')"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in code])
    client = nbclient.NotebookClient(notebook, timeout=TIMEOUT_S, kernel_name="python3")
    with pytest.raises(nbclient.exceptions.CellExecutionError, match="restart the session once"):
        client.execute(env=environment(folder, cache))
