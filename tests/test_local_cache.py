"""Copies in the local cache: whole or not there, kept while a process holds them, and no rest of a killed one stays."""

import subprocess
import sys

import pytest

from realm_jax import local_cache
from realm_jax.local_cache import Held, copy_of


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """A cache for each test."""
    monkeypatch.setenv("REALM_JAX_CACHE", str(tmp_path / "cache"))


def fill(text="x"):
    return lambda folder: (folder / "file").write_text(text)


def cached():
    return sorted(path.name for path in (local_cache.cache_dir() / "index").iterdir())


def holder(name, end="input()"):
    """Another process that holds a copy until its input is closed."""
    script = (
        "import os; from realm_jax.local_cache import Held\n"
        f"held = Held({name!r}, lambda folder: (folder / 'file').write_text('theirs'))\n"
        f"print('holds', flush=True); {end}"
    )
    process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "holds\n"
    return process


def test_a_copy_is_made_once():
    folder = copy_of("segments/a", fill("first"))
    assert copy_of("segments/a", fill("second")) == folder
    assert (folder / "file").read_text() == "first"


def test_a_copy_that_fails_is_not_there():
    def fails(folder):
        (folder / "file").write_text("half")
        raise ValueError

    with pytest.raises(ValueError):
        copy_of("segments/a", fails)
    assert not (local_cache.cache_dir() / "segments").exists()
    assert not any((local_cache.cache_dir() / local_cache.UNFINISHED).iterdir())
    assert (copy_of("segments/a", fill()) / "file").exists()


def test_older_copies_go_when_nobody_holds_them():
    first = Held("index/1", fill())
    second = Held("index/2", fill())
    assert cached() == ["1", "2"]
    del first
    third = Held("index/3", fill())
    assert cached() == ["2", "3"]
    again = Held("index/2", fill("new"))
    assert (again.folder / "file").read_text() == "x" and cached() == ["2", "3"]  # a newer one stays
    del second, third, again


def test_what_another_process_holds_stays():
    other = holder("index/1")
    mine = Held("index/2", fill())
    assert cached() == ["1", "2"]
    other.communicate()
    last = Held("index/3", fill())
    assert cached() == ["2", "3"]
    del mine, last


def test_a_killed_process_holds_nothing_and_leaves_nothing():
    holder(
        "index/1",
        end="from realm_jax.local_cache import temporary_folder; t = temporary_folder(); os.kill(0, 9)".replace(
            "os.kill(0, 9)", "open(t.name + '/part', 'w').close(); os.kill(os.getpid(), 9)"
        ),
    ).wait()
    unfinished = local_cache.cache_dir() / local_cache.UNFINISHED
    assert len(list(unfinished.rglob("part"))) == 1
    held = Held("index/2", fill())
    assert cached() == ["2"] and not any(unfinished.iterdir())
    del held
