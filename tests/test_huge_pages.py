"""Commands start again, once, with what makes glibc ask for huge pages, where Linux gives them only so."""

import os
import subprocess
import sys

import pytest

from realm_jax import huge_pages

OFFERED = "always [madvise] never\n"
SCRIPT = """
import os, pathlib, sys
from realm_jax import huge_pages
huge_pages.MODE = pathlib.Path(sys.argv[1])
print("begun", flush=True)
huge_pages.ensure()
print(os.environ.get("GLIBC_TUNABLES", ""), os.getpid(), *sys.argv[2:])
"""


def run(tmp_path, mode, tunables):
    """What the script says, begun with such settings: how often it began, the settings, the rest."""
    if mode:
        (tmp_path / "mode").write_text(mode)
    environment = {name: value for name, value in os.environ.items() if name != huge_pages.VARIABLE}
    environment |= {} if tunables is None else {huge_pages.VARIABLE: tunables}
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "mode"), "--text=two words"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        said = process.communicate()[0].splitlines()
    assert process.returncode == 0
    assert said[-1].endswith(f"{process.pid} --text=two words")
    return said.count("begun"), said[-1].split(" ")[0]


@pytest.mark.parametrize(
    ("mode", "tunables", "begun", "settings"),
    [
        (OFFERED, None, 2, "glibc.malloc.hugetlb=1"),
        (OFFERED, "glibc.malloc.perturb=1", 2, "glibc.malloc.perturb=1:glibc.malloc.hugetlb=1"),
        (OFFERED, "glibc.malloc.hugetlb=0", 1, "glibc.malloc.hugetlb=0"),
        ("[always] madvise never\n", None, 1, ""),
        ("always madvise [never]\n", None, 1, ""),
        ("", None, 1, ""),
    ],
)
def test_it_starts_again_where_that_helps(tmp_path, mode, tunables, begun, settings):
    assert run(tmp_path, mode, tunables) == (begun, settings)


@pytest.mark.parametrize("module", ["realm_jax", "realm_jax.eval"])
def test_commands_begin_with_it(module):
    """Before they read a flag."""
    begin = "import runpy, sys; from realm_jax import huge_pages; huge_pages.ensure = lambda: sys.exit('asked')"
    command = [sys.executable, "-c", f"{begin}; runpy.run_module('{module}', run_name='__main__')", "--help"]
    assert subprocess.run(command, capture_output=True, text=True).stderr == "asked\n"
