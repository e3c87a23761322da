"""Imports go one way and stand at the top; files are small, named once; some names have one owner; quick `--help`."""

import ast
import os
import pathlib
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator

import pytest

from realm_jax.__main__ import COMMANDS, STAGES

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "realm_jax"

# Lowest first: a file imports from the lines above its own, and from its own line.
LAYERS = [
    [
        "bounds",
        "config",
        "console",
        "config_json",
        "records",
        "batches",
        "progress",
        "html_page",
        "drawing",
        "report",
        "background",
        "faults",
        "memory",
        "paths",
        "terminal",
        "huge_pages",
        "signals",
        "lock",
        "redo",
        "local_cache",
        "checksums",
        "buckets",
        "workdir",
        "heartbeat",
        "experiments_file",
        "parallel",
        "processes",
        "checkpoints",
    ],
    ["model_folder"],
    ["data"],
    ["losses"],
    ["models"],
    ["scores"],
    ["index"],
    ["openqa"],
    ["plan"],
    ["training"],
    ["tagging"],
    ["inference"],
    ["eval"],
    ["ablations"],
    ["serve"],
    ["convert"],
    ["inspect"],
    ["run"],
    ["api"],
    ["__init__"],
    ["commands"],
    ["__main__"],
]
ENTRY = "eval.__main__"  # `python -m realm_jax.eval`, which is `realm eval`
# What a file may import within a function: libraries that a user may lack, or that take long and are rarely needed.
OPTIONAL = {
    "apache_beam": "data.build.beam_pipeline",
    "pyarrow": "data.sources.rows",
    "realm_jax.data.build.mediawiki": "data.build.source",  # needs mwxml
    "realm_jax.data.questions.curated_trec": "data.published",  # needs tensorflow-datasets
    "scann": "index.scann",
    "spacy": "data.salient",
    "tensorflow_datasets": "data.published",
    "wandb": "training.tracker",
}
HAS_JAX_ON_TOP = (
    "models",
    "losses",
    "index",
    "openqa",
    "plan.compiled",
    "plan.longest_batch",
    "training",
    "tagging",
    "inference",
    "api",
    "ablations",
    "batches",
    "eval",
    "serve",
    "convert",
    "parallel",
    "processes",
    "checkpoints",
    "run",
)

FILES = sorted(PACKAGE.rglob("*.py"))


def module_of(file: pathlib.Path) -> str:
    """`index.builder` of realm_jax/index/builder.py."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


MODULES = {module_of(file): file for file in FILES}
LINES_OF_A_FILE, LINES_OF_A_FUNCTION = 350, 60
STARTUP_S = {"": 0.2, "COMMAND": 1.3}  # of `realm --help` and `realm COMMAND --help`, more than `python -c pass` takes


def imports_of(file: pathlib.Path) -> set[str]:
    """Modules of ours that a file imports anywhere in it, as `module_of` names them."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module}
    ours = {name.removeprefix("realm_jax.") for name in names if name.startswith("realm_jax.")}
    return {name for name in ours if name in MODULES}


def layer(module: str) -> int:
    first = module.split(".")[0]
    return next(i for i, names in enumerate(LAYERS) if first in names)


def local_imports(file: pathlib.Path) -> Iterator[tuple[str, int]]:
    """(module, line) of each import that does not stand at the top of the file."""
    tree = ast.parse(file.read_text())
    for node in ast.walk(tree):
        if node not in tree.body and isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif node not in tree.body and isinstance(node, ast.ImportFrom):
            yield node.module, node.lineno


@pytest.mark.parametrize("module", sorted(set(MODULES) - {ENTRY}))
def test_imports_go_down(module):
    assert any(module.split(".")[0] in names for names in LAYERS), f"{module}: give it a line in LAYERS"
    above = {name for name in imports_of(MODULES[module]) if layer(name) > layer(module)}
    assert not above, f"{module} imports {above} from above"


@pytest.mark.parametrize("module", [name for name in MODULES if not name.startswith("commands.")])
def test_imports_stand_at_the_top(module):
    """But for what `OPTIONAL` names, and commands, whose `--help` is quick."""
    if MODULES[module].name == "__init__.py":
        return
    allowed = {name for name, users in OPTIONAL.items() if module in users.split()}
    found = [
        (name, line)
        for name, line in local_imports(MODULES[module])
        if not any(name == known or name.startswith(f"{known}.") for known in allowed)
    ]
    assert not found, f"{module} imports within a function: {found}"
    assert "TYPE_CHECKING" not in names_in(MODULES[module])


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Modules each of which imports the next, and the last one the first; empty if there are none."""
    done: set[str] = set()

    def from_here(module: str, way: list[str]) -> list[str]:
        if module in way:
            return way[way.index(module) :]
        if module in done:
            return []
        found = next(filter(None, (from_here(name, [*way, module]) for name in sorted(graph[module]))), [])
        done.add(module)
        return found

    return next(filter(None, (from_here(module, []) for module in sorted(graph))), [])


def test_no_circle_of_imports():
    graph = {module: imports_of(file) - {module} for module, file in MODULES.items()}
    assert circle({**graph, "records": graph["records"] | {"serve.page"}}) != []
    assert circle(graph) == []


def test_only_main_knows_the_commands():
    for module, file in MODULES.items():
        known = {name for name in imports_of(file) if name.startswith("commands.")}
        assert not known or module.startswith("commands.") and known == {"commands.cli"}, f"{module} imports {known}"


def test_every_command_is_listed_once_and_is_thin():
    files = {file.stem for file in (PACKAGE / "commands").glob("*.py")} - {"__init__", "cli"}
    assert sorted(files) == sorted(COMMANDS)
    assert list(STAGES) == ["corpus", "train", "index", "evaluate", "serve", "look"]
    for name in files:
        assert len((PACKAGE / "commands" / f"{name}.py").read_text().splitlines()) <= 150, name


def test_only_commands_parse_flags():
    users = {module for module, file in MODULES.items() if {"tyro", "argparse"} & names_in(file)}
    assert {module for module in users if not module.startswith("commands.")} == set()


def names_in(file: pathlib.Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Attribute):
            found.add(node.attr)
        elif isinstance(node, ast.Import):
            found |= {part for alias in node.names for part in alias.name.split(".")}
        elif isinstance(node, ast.ImportFrom):
            found |= set((node.module or "").split(".")) | {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize(
    ("names", "owner"),
    [
        ({"pmap", "shard_map", "Mesh", "make_mesh", "device_put"}, "parallel"),
        ({"orbax"}, "checkpoints"),
        ({"tensorflow", "tensorflow_datasets"}, "data.published"),
        ({"scann", "scann_ops_pybind"}, "index.scann"),
    ],
    ids=["devices", "orbax", "tensorflow", "scann"],
)
def test_only_one_file_names_it(names, owner):
    allowed = {owner} | {
        "index.scann": {"index.search", "index.tuning"},
        "data.published": {"data.questions.curated_trec"},
    }.get(owner, set())
    users = {module for module, file in MODULES.items() if names & names_in(file)}
    assert users - allowed == set() and owner in users


def test_jax_is_imported_on_top_only_where_arrays_are():
    for module, file in MODULES.items():
        top = [node for node in ast.parse(file.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
        names = {alias.name for node in top if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module for node in top if isinstance(node, ast.ImportFrom)}
        if any(name.split(".")[0] in ("jax", "flax", "optax", "orbax") for name in names):
            assert module.startswith(HAS_JAX_ON_TOP), module


def test_files_and_functions_are_small_and_files_say_their_idea():
    for file in FILES:
        tree = ast.parse(file.read_text())
        assert ast.get_docstring(tree) or not tree.body, f"{file}: no docstring"
        assert len(file.read_text().splitlines()) <= LINES_OF_A_FILE, file
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                assert node.end_lineno - node.lineno < LINES_OF_A_FUNCTION, f"{file}: {node.name}"
    assert not list(PACKAGE.rglob("utils.py"))


def test_base_names_are_unique():
    """So that a name says which file is meant; a command is named after what it does, an experiment after its model."""
    stems = Counter(
        file.stem
        for file in FILES
        if file.name not in ("__init__.py", "__main__.py") and file.parent.name not in ("commands", "experiments")
    )
    assert [stem for stem, count in stems.items() if count > 1] == []


HELP = """
import sys
from realm_jax.__main__ import main
try:
    main(sys.argv[1:])
except SystemExit as stop:
    assert not stop.code, stop.code
print("LOADED", sorted({"jax", "tensorflow", "orbax", "flax", "scann", *FORBIDDEN} & set(sys.modules)))
"""
SHOWS = {
    "ablate": "--out",
    "convert": "--vocab",
    "corpus": "--out",
    "inspect": "--watch",
    "plan": "--hardware",
    "retag": "--out",
    "show": "--html",
    "tag": "--out",
}


def helped(*words: str, forbidden: str = "()") -> str:
    """What `realm WORDS --help` prints, and what it has loaded."""
    code = HELP.replace("FORBIDDEN", forbidden)
    command = [sys.executable, "-c", code, *words, "--help"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize("command", COMMANDS)
def test_help_lists_flags_and_loads_no_jax(command):
    shown = helped(command)
    assert f"usage: realm {command} " in shown and shown.endswith("LOADED []\n"), shown[-300:]
    assert SHOWS.get(command, "--workdir") in shown
    if command in ("run", "ict", "pretrain"):
        assert "--pretrain.learning-rate" in shown and "--config" in shown and "--corpus" in shown


def test_help_of_all_lists_every_command_and_loads_none():
    shown = helped(forbidden='("tyro", "numpy", "etils", "realm_jax.config", "realm_jax.commands")')
    assert shown.endswith("LOADED []\n"), shown[-300:]
    lines = [line.split()[0] for line in shown.splitlines() if line.startswith("  ")]
    assert lines == [name for commands in STAGES.values() for name in commands]


def cpu_seconds(*command: str) -> float:
    """What Python and a command take of a processor; the clock's seconds depend on what else the machine does."""
    process = subprocess.Popen([sys.executable, *command], cwd=REPOSITORY, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_is_quick(command):
    words = ["-m", "realm_jax", *filter(None, [command]), "--help"]
    assert cpu_seconds(*words) - cpu_seconds("-c", "pass") < STARTUP_S["COMMAND" if command else ""]


def test_both_ways_to_call_a_command_are_one():
    ways = (["-m", "realm_jax", "eval"], ["-m", "realm_jax.eval"])
    shown = [
        subprocess.run([sys.executable, *way, "--help"], cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
        for way in ways
    ]
    assert shown[0].stdout == shown[1].stdout != "" and shown[0].returncode == 0


def test_a_command_that_there_is_not():
    done = subprocess.run(
        [sys.executable, "-m", "realm_jax", "evil"], cwd=REPOSITORY, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2 and done.stderr.startswith("error: realm has no command evil: use corpus, tag, ")


@pytest.mark.parametrize("module", ["", ".config", ".experiments_file", ".commands.cli", ".workdir", ".records"])
def test_import_loads_no_jax(module):
    code = f"import sys, realm_jax{module}; assert not {{'jax', 'tensorflow'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True, timeout=60)
