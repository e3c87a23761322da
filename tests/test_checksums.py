"""A file's checksum is computed once as long as the file stays the same, here and in later processes."""

import hashlib
import os
import pathlib
import subprocess
import sys

import pytest

from realm_jax import checksums
from realm_jax.data.segment import link

WITHOUT_READING = """
import sys
from realm_jax import checksums
checksums.file_sha256 = None
print(checksums.remembered_sha256(sys.argv[1]))
"""


@pytest.fixture
def read(monkeypatch):
    """Files whose content was read, in order."""
    found = []
    plain = checksums.file_sha256

    def noted(file):
        found.append(os.fspath(file))
        return plain(file)

    monkeypatch.setattr(checksums, "file_sha256", noted)
    return found


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_a_file_is_read_once_until_it_changes(tmp_path, read):
    file = tmp_path / "a"
    file.write_bytes(b"one")
    for _ in range(3):
        assert checksums.remembered_sha256(file) == sha256(b"one")
    assert read == [str(file)]
    file.write_bytes(b"two")
    assert checksums.remembered_sha256(file) == sha256(b"two") and len(read) == 2
    (tmp_path / "b").write_bytes(b"six")
    os.replace(tmp_path / "b", file)
    assert checksums.remembered_sha256(file) == sha256(b"six") and len(read) == 3


def test_a_flipped_bit_is_seen_although_the_time_of_change_was_set_back(tmp_path, read):
    file = tmp_path / "a"
    file.write_bytes(b"one")
    checksums.remembered_sha256(file)
    before = file.stat()
    file.write_bytes(b"onf")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert checksums.remembered_sha256(file) == sha256(b"onf")


def test_later_processes_do_not_read_it_again(tmp_path, read):
    file = tmp_path / "a"
    file.write_bytes(b"one")
    checksums.remembered_sha256(file)
    checksums._sha256.cache_clear()
    assert checksums.remembered_sha256(file) == sha256(b"one") and len(read) == 1
    done = subprocess.run([sys.executable, "-c", WITHOUT_READING, file], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == sha256(b"one")


def test_a_memory_that_a_crash_left_empty_is_none(tmp_path, read):
    file = tmp_path / "a"
    file.write_bytes(b"one")
    checksums.remembered_sha256(file)
    checksums._memory(checksums._state(file)).write_text("")
    checksums._sha256.cache_clear()
    assert checksums.remembered_sha256(file) == sha256(b"one") and len(read) == 2


def test_what_the_writer_computed_is_remembered(tmp_path, read):
    file = tmp_path / "a"
    file.write_bytes(b"one")
    checksums.remember(file, computed := sha256(b"as computed"))
    assert checksums.remembered_sha256(file) == computed and not read


def test_without_a_cache_it_is_computed(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"one")
    monkeypatch.setattr(checksums, "cache_dir", lambda: pathlib.Path("/proc/nowhere"))
    assert checksums.remembered_sha256(tmp_path / "file") == sha256(b"one")


def test_a_file_that_gets_a_second_place_is_not_read_again(tmp_path, read):
    file = tmp_path / "a"
    file.write_bytes(b"one")
    checksums.remembered_sha256(file)
    link(file, tmp_path / "b")
    assert {checksums.remembered_sha256(tmp_path / name) for name in "ab"} == {sha256(b"one")}
    assert read == [str(file)]
