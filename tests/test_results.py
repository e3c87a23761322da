"""Results name what they depend on: a path that is gone fails the check of the tables, and old results are named."""

import json
import os
import pathlib
import re
import runpy
import shutil
import subprocess
import sys

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
PATHS = runpy.run_path(str(REPOSITORY / "benchmarks" / "depends.py"))["PATHS"]
RESULTS = [json.loads(file.read_text()) for file in sorted((REPOSITORY / "benchmarks" / "results").glob("*.json"))]
BEFORE_ALL_RESULTS, CHANGED = "2020-01-01T00:00:00Z", "realm_jax/tagging/tagger_model.py"


@pytest.fixture
def checkout(tmp_path) -> pathlib.Path:
    """A copy of what the check reads, without git."""
    for name in ("benchmarks", "experiments", "realm_jax"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPOSITORY / name, tmp_path / "copy" / name, symlinks=True, ignore=ignore)
    written = ("README.md", *(f"docs/{name}" for name in ("results.md", "reliability.md", "scaling.md", "search.md")))
    for name in (
        *written,
        "docs/img/nano.svg",
        "docs/img/search.svg",
        "docs/img/curve.svg",
        "tests/data/annotated.jsonl",
    ):
        (tmp_path / "copy" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / name, tmp_path / "copy" / name)
    return tmp_path / "copy"


def git(folder: pathlib.Path, *arguments: str, date: str = "2099-01-01T00:00:00Z") -> str:
    command = ["git", "-C", folder, "-c", "user.name=n", "-c", "user.email=e", *arguments]
    environment = {**os.environ, "GIT_COMMITTER_DATE": date, "GIT_CONFIG_GLOBAL": os.devnull}
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()


def committed(folder: pathlib.Path, date: str) -> None:
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message=all", date=date)


def check(folder: pathlib.Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "benchmarks/tables.py", "--check"]
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


def named(done: subprocess.CompletedProcess) -> set[str]:
    """The results that are said to be old."""
    assert done.returncode == 0, done.stderr
    return set(re.findall(r"^(\w+)\.json \(.*is older than", done.stdout, re.M))


def test_every_script_that_writes_a_result_says_what_it_depends_on():
    scripts = {file.stem for file in (REPOSITORY / "benchmarks").glob("*.py") if "write_result(" in file.read_text()}
    assert scripts - {"report"} == set(PATHS)


@pytest.mark.parametrize("result", RESULTS, ids=[result["name"] for result in RESULTS])
def test_a_result_names_the_paths_of_its_script(result):
    script = pathlib.Path(result["command"].split()[1]).stem
    assert result["depends_on"] == list(PATHS[script]) != []


def test_a_new_result_names_them(checkout):
    script = "from report import write_result\nwrite_result('new', {})\n"
    (checkout / "benchmarks" / "index_recall.py").write_text(script)
    subprocess.run([sys.executable, "benchmarks/index_recall.py"], cwd=checkout, check=True, timeout=60)
    new = json.loads((checkout / "benchmarks" / "results" / "new.json").read_text())
    assert new["depends_on"] == list(PATHS["index_recall"])


def test_a_path_that_is_gone_fails(checkout):
    (checkout / CHANGED).unlink()
    done = check(checkout)
    assert done.returncode == 1 and CHANGED in done.stderr and "realm_jax/models/bert.py" not in done.stderr


def test_a_table_edited_by_hand_fails(checkout):
    page = checkout / "README.md"
    page.write_text(page.read_text().replace("| plain recall@1 | 0.", "| plain recall@1 | 1."))
    done = check(checkout)
    assert done.returncode == 1 and "README.md is out of date" in done.stderr


def test_old_results_are_named_and_young_ones_are_not(checkout):
    committed(checkout, BEFORE_ALL_RESULTS)
    assert named(check(checkout)) == set()  # their commits are unknown here: by date
    (checkout / CHANGED).write_text("# changed\n")
    git(checkout, "commit", "--quiet", "--all", "--message=another tagger")
    dependent = {result["name"] for result in RESULTS if CHANGED in result["depends_on"]}
    assert named(check(checkout)) == dependent != {result["name"] for result in RESULTS}

    file = checkout / "benchmarks" / "results" / "tagger.json"
    head = git(checkout, "rev-parse", "HEAD")
    file.write_text(json.dumps(json.loads(file.read_text()) | {"commit": f"{head}+changes"}))
    assert named(check(checkout)) == dependent - {"tagger"}
    file.write_text(json.dumps(json.loads(file.read_text()) | {"commit": git(checkout, "rev-parse", "HEAD~")}))
    assert named(check(checkout)) == dependent


def test_a_result_whose_bits_were_compared_is_as_young_as_the_comparison(checkout):
    committed(checkout, BEFORE_ALL_RESULTS)
    file = checkout / "benchmarks" / "results" / "tagger.json"
    result = json.loads(file.read_text()) | {"commit": git(checkout, "rev-parse", "HEAD")}

    def is_old(**more) -> bool:
        file.write_text(json.dumps(result | more))
        return "tagger" in named(check(checkout))

    (checkout / CHANGED).write_text("# moved\n")
    git(checkout, "commit", "--quiet", "--all", "--message=the same bits")
    moved = git(checkout, "rev-parse", "HEAD")
    assert is_old() and not is_old(same_bits_at=moved)
    assert is_old(same_bits_at="0" * 40)  # a commit that is not known here counts for nothing
    (checkout / CHANGED).write_text("# changed\n")
    git(checkout, "commit", "--quiet", "--all", "--message=other bits")
    assert is_old(same_bits_at=moved)


def test_without_a_history_it_says_so_and_goes_on(checkout, tmp_path):
    done = check(checkout)
    assert named(done) == set() and "no git checkout" in done.stdout
    committed(checkout, BEFORE_ALL_RESULTS)
    git(checkout, "commit", "--quiet", "--allow-empty", "--message=more")
    git(tmp_path, "clone", "--quiet", "--depth=1", f"file://{checkout}", "shallow")
    done = check(tmp_path / "shallow")
    assert named(done) == set() and "shallow" in done.stdout
