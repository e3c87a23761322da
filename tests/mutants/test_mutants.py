"""The planted faults still apply, are listed in docs/contributing.md, and none survives."""

import re
import subprocess
import sys

import pytest

from tests.mutants.__main__ import ROOT, table
from tests.mutants.faults import FAULTS


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.what)
def test_a_fault_changes_the_code_as_it_is(fault):
    source = (ROOT / "realm_jax" / fault.file).read_text()
    assert fault.plant(source) != source
    for test in fault.tests.split():
        file, _, name = test.partition("::")
        assert f"def {name}" in (ROOT / "tests" / file).read_text(), test


def test_the_table_in_the_docs_is_that_of_the_faults():
    assert len(FAULTS) == len({fault.what for fault in FAULTS}) >= 30
    assert table() in (ROOT / "docs" / "contributing.md").read_text(), "run python -m tests.mutants --table"


@pytest.mark.slow
def test_no_planted_fault_survives():
    """Every third one, which has some of each group: `make mutants` plants all."""
    command = [sys.executable, "-m", "tests.mutants", *(fault.what for fault in FAULTS[::3])]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr
    assert re.search(r"^0 of \d+ planted faults survive", result.stdout, re.M)
