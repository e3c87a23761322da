"""The one direction of imports, what only one file may name, and that `--help` costs nothing."""

import ast
import pathlib
import subprocess
import sys

import pytest

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "realm_jax"

# Lowest first: a file imports from the lines above its own, and from its own line.
LAYERS = [
    ["__init__"],
    [
        "config",
        "records",
        "batches",
        "progress",
        "html_page",
        "drawing",
        "report",
        "memory",
        "paths",
        "terminal",
        "lock",
        "redo",
        "local_cache",
        "buckets",
        "workdir",
        "heartbeat",
        "cli",
        "parallel",
        "hosts",
        "checkpoints",
    ],
    ["model_folder"],
    ["data"],
    ["models"],
    ["losses"],
    ["scores"],
    ["index"],
    ["openqa"],
    ["training"],
    ["tagging"],
    ["eval"],
    ["ablations"],
    ["serve"],
    ["convert"],
    ["inspect"],
]
# Only `realm_jax.run`, the command of commands, imports other commands.
RUN = "run"
# Nobody imports a command, so one may put together what lies above its folder: a corpus with a trained tagger's spans.
COMPOSES = {RUN, "data.build.__main__"}
HAS_JAX_ON_TOP = (
    "models",
    "losses",
    "index",
    "openqa",
    "training",
    "tagging",
    "ablations",
    "batches",
    "eval",
    "serve",
    "convert",
    "parallel",
    "hosts",
    "checkpoints",
)

FILES = sorted(PACKAGE.rglob("*.py"))


def module_of(file: pathlib.Path) -> str:
    """`index.builder` of realm_jax/index/builder.py."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


MODULES = {module_of(file): file for file in FILES}
COMMANDS = sorted(name for name, file in MODULES.items() if '__name__ == "__main__"' in file.read_text())


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


@pytest.mark.parametrize("module", sorted(set(MODULES) - COMPOSES))
def test_imports_go_down(module):
    assert any(module.split(".")[0] in names for names in LAYERS), f"{module}: give it a line in LAYERS"
    above = {name for name in imports_of(MODULES[module]) if layer(name) > layer(module)}
    assert not above, f"{module} imports {above} from above"


def test_commands_are_imported_by_nobody():
    for module, file in MODULES.items():
        found = imports_of(file) & set(COMMANDS)
        assert not found or module == RUN, f"{module} imports the command {found}"


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
    allowed = {owner} | {"index.scann": {"index.search"}, "data.published": {"data.curated_trec"}}.get(owner, set())
    users = {module for module, file in MODULES.items() if names & names_in(file)}
    assert users - allowed == set() and owner in users


def test_jax_is_imported_on_top_only_where_arrays_are():
    for module, file in MODULES.items():
        top = [node for node in ast.parse(file.read_text()).body if isinstance(node, ast.Import | ast.ImportFrom)]
        names = {alias.name for node in top if isinstance(node, ast.Import) for alias in node.names}
        names |= {node.module for node in top if isinstance(node, ast.ImportFrom)}
        if any(name.split(".")[0] in ("jax", "flax", "optax", "orbax") for name in names):
            assert module.startswith(HAS_JAX_ON_TOP), module


def test_files_are_small_and_say_their_idea():
    for file in FILES:
        tree = ast.parse(file.read_text())
        assert ast.get_docstring(tree) or not tree.body, f"{file}: no docstring"
        assert len(file.read_text().splitlines()) <= 400, file
    assert not list(PACKAGE.rglob("utils.py"))


HELP = """
import runpy, sys
sys.argv = ["command", "--help"]
try:
    runpy.run_module(sys.argv.pop(0) and MODULE, run_name="__main__", alter_sys=False)
except SystemExit as stop:
    print("STATUS", stop.code)
print("LOADED", sorted({"jax", "tensorflow", "orbax", "flax", "scann"} & set(sys.modules)))
"""


@pytest.mark.parametrize("module", COMMANDS)
def test_help_lists_flags_and_loads_no_jax(module):
    code = f"MODULE = 'realm_jax.{module}'" + HELP.replace("sys.argv.pop(0) and MODULE", "MODULE")
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert "STATUS 0" in done.stdout or "STATUS None" in done.stdout, done.stderr[-2000:]
    assert "LOADED []" in done.stdout, done.stdout[-300:]
    folder = {
        "convert.__main__": "--vocab",
        "ablations.ablate": "--out",
        "data.show.__main__": "--html",
        "data.build.__main__": "--out",
        "tagging.tag": "--out",
        "tagging.retag": "--out",
        "inspect.__main__": "--watch",
    }.get(module, "--workdir")
    assert folder in done.stdout
    if module in ("run", "training.ict", "training.pretrain"):
        assert "--pretrain.learning-rate" in done.stdout and "--config" in done.stdout and "--corpus" in done.stdout


@pytest.mark.parametrize("module", ["", ".config", ".cli", ".workdir", ".records"])
def test_import_loads_no_jax(module):
    code = f"import sys, realm_jax{module}; assert not {{'jax', 'tensorflow'}} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True, timeout=60)
