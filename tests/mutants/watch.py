"""A pytest plugin that writes what kinds of exceptions failed the tests, one name a line, to $REALM_MUTANT_REPORT.

Only an assertion notices a fault. A test that dies of a missing name or an import would fail whatever it says.
"""

import os
import pathlib

import pytest


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    yield
    if call.excinfo is not None and not call.excinfo.errisinstance(pytest.skip.Exception):
        with pathlib.Path(os.environ["REALM_MUTANT_REPORT"]).open("a") as report:
            kind = "assertion" if call.when == "call" and _is_assertion(call.excinfo.value) else call.excinfo.typename
            report.write(f"{kind} {item.nodeid}\n")


def _is_assertion(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):  # hypothesis found several
        return all(map(_is_assertion, error.exceptions))
    return isinstance(error, (AssertionError, pytest.fail.Exception))
