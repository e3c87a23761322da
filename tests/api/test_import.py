"""`import realm_jax` is quick, imports no JAX, and has all the names that it says."""

import ast
import pathlib
import subprocess
import sys

import pytest

import realm_jax

QUICK_S = 0.3


def test_it_is_quick_and_imports_no_jax():
    code = "import sys, time; started = time.process_time(); import realm_jax; print(time.process_time() - started)"
    code += "; assert not {'jax', 'numpy', 'etils'} & set(sys.modules); realm_jax.ConfigError, realm_jax.Config"
    code += "; assert 'jax' not in sys.modules; realm_jax.experiment('nano'); next(realm_jax.texts('asset:mini'))"
    code += "; assert 'jax' not in sys.modules"  # its threads and IPython's fork for a shell command do not go together
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert float(done.stdout) < QUICK_S


def test_every_name_is_there_for_programs_and_for_editors():
    assert set(realm_jax.__all__) <= set(dir(realm_jax))
    assert all(getattr(realm_jax, name).__doc__ for name in realm_jax.__all__)
    tree = ast.parse(pathlib.Path(realm_jax.__file__).read_text())
    (typed,) = (node for node in tree.body if isinstance(node, ast.If))
    names = {alias.asname or alias.name for node in typed.body for alias in node.names}
    assert names == set(realm_jax.__all__)


def test_no_name_is_that_of_a_module_which_would_take_its_place():
    folder = pathlib.Path(realm_jax.__file__).parent
    assert not set(realm_jax.__all__) & {file.stem for file in folder.iterdir()}


def test_a_name_that_there_is_not_is_an_error_that_lists_the_others():
    with pytest.raises(AttributeError, match="no attribute 'load': it has .*open"):
        _ = realm_jax.load


def test_an_experiment_is_known_by_its_name_or_its_file(tmp_path):
    assert realm_jax.experiment("nano").name == "nano"
    file = tmp_path / "own.py"
    file.write_text("from realm_jax.config import Config\n\n\ndef get_config():\n    return Config(name='own')\n")
    assert realm_jax.experiment(str(file)) == realm_jax.Config(name="own")
    with pytest.raises(realm_jax.ConfigError, match="no experiment file"):
        realm_jax.experiment("nothing")


def test_the_texts_of_a_source(tmp_path):
    (tmp_path / "a.md").write_text("# Lark House\n\nIt was built in 1911.\n")
    (record,) = realm_jax.texts(tmp_path)
    assert (record.title, record.text) == ("Lark House", "It was built in 1911.")
