"""Every example of docs/python.md runs as it stands, in the order of the page; and so does the listing of all calls."""

import pathlib
import re

import pytest

import realm_jax

PAGE = pathlib.Path(__file__).resolve().parents[2] / "docs" / "python.md"
TRAINING = "## Train from Python"
LISTING = """
run = realm_jax.open("runs/nano")
run.search("Who built Lark House?", k=5)
run.search(["Who built Lark House?", "Where?"], k=5)
run.fill("Lark House was built by [MASK].")
run.ask("Who built Lark House?")
run.embed(["Who built Lark House?"], side="query")
run.embed([("Lark House", "It was built in 1911.")], side="block")
run.add([{"id": "larks", "title": "Lark House", "text": "Lark House was built in 1911."}]); run.delete(["larks"])
run.config, run.metrics("pretrain"), run.summary, run.index.versions()
realm_jax.experiment("nano")
"""


def blocks(text: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def execute(code: str, names: dict) -> None:
    exec(compile(code, "docs/python.md", "exec"), names)


@pytest.fixture
def runs(tuned_run, tmp_path, copy_run, monkeypatch):
    """A folder in which the page's run is a tiny one, with the files that the end of a real one writes."""
    workdir = copy_run(tuned_run, tmp_path / "runs" / "nano")
    (workdir.phase("pretrain") / "metrics.jsonl").write_text('{"step": 2, "loss": 7.5}\n{"step": 4, "loss": 7.25}\n')
    workdir.summary_file.write_text('{"index": {"published_steps": [4]}}')
    (workdir.path / "report.md").write_text("# nano\n\n## Held-out sentences\n\ntable\n\n## Curves\n\nplots\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs"


def test_the_page_about_an_opened_run(runs, capsys):
    before, after = PAGE.read_text().split(TRAINING)
    code, names = blocks(before), {}
    assert len(code) >= 12 and len(blocks(after)) == 2
    for block in code:
        execute(block, names)
    said = capsys.readouterr().out
    assert "no [MASK]" in said and "(4, 7.25)" in said and "added larks; 1 block" in said and "float32" in said
    names["run"].close()


@pytest.mark.slow
def test_the_page_about_training(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {"realm_jax": realm_jax}
    for block in blocks(PAGE.read_text().split(TRAINING)[1]):
        execute(block, names)
    said = capsys.readouterr().out
    assert "exact match on 64 questions of cloze" in said and "BM25's blocks, same reader" in said
    assert names["run"].evaluation("cloze").results == names["evaluation"].results
    for line in LISTING.replace("runs/nano", "runs/mini").strip().splitlines():
        execute(line, names)


def test_the_listing_of_all_calls(runs):
    names = {"realm_jax": realm_jax}
    for line in LISTING.strip().splitlines():
        execute(line, names)
    names["run"].close()
