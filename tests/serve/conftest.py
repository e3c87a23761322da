"""Runs that are opened as the page does."""

import pytest

from realm_jax.serve import live
from realm_jax.workdir import Workdir


@pytest.fixture
def open_run(monkeypatch):
    """Opens a run as the page does; it follows the workdir only when `refresh` is called."""
    monkeypatch.setattr(live, "POLL_S", 3600.0)
    opened = []

    def make(workdir: Workdir, finetuning: str = "") -> live.LiveRun:
        opened.append(live.LiveRun(workdir, finetuning))
        return opened[-1]

    yield make
    for run in opened:
        run.close()
