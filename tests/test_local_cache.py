"""Copies in the local cache: whole or not there, kept while a process holds them, and no rest of a killed one stays."""

import os
import pathlib
import subprocess
import sys

import pytest

from realm_jax import local_cache
from realm_jax.commands import cli
from realm_jax.config import ConfigError
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


@pytest.mark.parametrize("home", ["none", "read-only", "good"])
def test_without_a_home_folder_the_cache_is_a_temporary_one(tmp_path, monkeypatch, capsys, home):
    def no_home(path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("REALM_JAX_CACHE")
    monkeypatch.setattr(local_cache.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setenv("HOME", "/proc/nobody" if home == "read-only" else str(tmp_path / "home"))
    if home == "none":
        monkeypatch.setattr(pathlib.Path, "expanduser", no_home)
    local_cache._own_cache.cache_clear()
    expected = tmp_path / ("home/.cache/realm_jax" if home == "good" else f"realm_jax-{os.getuid()}")
    assert local_cache.cache_dir() == expected == local_cache.cache_dir() and expected.is_dir()
    said = capsys.readouterr().out
    assert said.count("notice: no home folder") == (home != "good") and (home == "good" or str(expected) in said)
    local_cache._own_cache.cache_clear()
    if home != "good":
        other = os.getuid() + 1
        monkeypatch.setattr(local_cache.os, "getuid", lambda: other)
        expected.rename(tmp_path / f"realm_jax-{os.getuid()}")
        with pytest.raises(ConfigError, match="belongs to another user.*set REALM_JAX_CACHE=FOLDER"):
            local_cache.cache_dir()


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


@pytest.mark.parametrize(("named", "folder"), [("", "home/.cache/realm_jax"), ("~/mine", "home/mine")])
def test_commands_keep_compiled_programs_there(tmp_path, monkeypatch, named, folder):
    """An empty variable is none, and never the current folder."""
    import jax

    before = jax.config.jax_compilation_cache_dir
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.setenv("REALM_JAX_CACHE", named)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    local_cache._own_cache.cache_clear()
    try:
        cli.start_jax()
        assert jax.config.jax_compilation_cache_dir == str(tmp_path / folder / "xla")
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
        local_cache._own_cache.cache_clear()


def test_what_jaxs_own_variables_say_holds(monkeypatch):
    import jax

    before = jax.config.jax_compilation_cache_dir, jax.config.jax_persistent_cache_min_compile_time_secs
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", before[0])
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", str(before[1]))
    cli.start_jax()
    after = jax.config.jax_compilation_cache_dir, jax.config.jax_persistent_cache_min_compile_time_secs
    assert after == before
