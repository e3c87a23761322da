"""Checksums: SHA-256 of files, computed once as long as a file stays as it is, and CRC-32 of plain values.

What is read back after days, from disks that may err, is compared with its checksum before it is used. A file's size,
inode and times of change stand for its content from then on, here and in the cache: a restart reads nothing twice.
"""

import contextlib
import functools
import hashlib
import json
import os
import pathlib
import zlib

from etils import epath

from realm_jax.config import ConfigError
from realm_jax.local_cache import cache_dir


class Damaged(ConfigError):
    """What is read back is not what was written; the message says what to delete."""


def file_sha256(file: pathlib.Path | epath.Path) -> str:
    """Computes the SHA-256 of a file's content, in hexadecimal."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def remembered_sha256(file: os.PathLike | str) -> str:
    """The same of a file on a disk of this machine, not computed again if it has not changed since."""
    return _sha256(os.fspath(file), _state(file))


def remember(file: os.PathLike | str, sha256: str) -> None:
    """Keeps what whoever wrote the file has computed."""
    _write(_state(file), sha256)


def _state(file: os.PathLike | str) -> str:
    of = os.stat(file)
    return f"{of.st_dev} {of.st_ino} {of.st_size} {of.st_mtime_ns} {of.st_ctime_ns}"


@functools.lru_cache(1 << 16)
def _sha256(file: str, state: str) -> str:
    with contextlib.suppress(OSError, ValueError):
        remembered = _memory(state).read_text(encoding="ascii")
        if len(bytes.fromhex(remembered)) == hashlib.sha256().digest_size:  # else the machine crashed as it was written
            return remembered
    digest = file_sha256(pathlib.Path(file))
    _write(state, digest)
    return digest


def _memory(state: str) -> pathlib.Path:
    return cache_dir() / "checksums" / hashlib.sha256(state.encode()).hexdigest()


def _write(state: str, digest: str) -> None:
    """Writes the memory whole or not at all; where the cache is full or read-only, not at all."""
    memory = _memory(state)
    with contextlib.suppress(OSError):
        memory.parent.mkdir(parents=True, exist_ok=True)
        partial = memory.with_name(f"{memory.name}.{os.getpid()}")
        partial.write_text(digest, encoding="ascii")
        partial.rename(memory)


def describe_files(folder: os.PathLike | str, but: tuple[str, ...] = ()) -> dict[str, dict]:
    """Size and SHA-256 of every file in a folder on a disk of this machine, by its path within it.

    Args:
        but: how names of files begin that are left out.
    """
    files = sorted(f for f in pathlib.Path(folder).rglob("*") if f.is_file() and not f.name.startswith(but))
    return {
        file.relative_to(folder).as_posix(): {"bytes": file.stat().st_size, "sha256": remembered_sha256(file)}
        for file in files
    }


def check_files(folder: os.PathLike, described: dict[str, dict], fix: str, named: os.PathLike | None = None) -> None:
    """Compares files with what `describe_files` said of them; reads one that has not changed since once.

    Args:
        fix: what to do about damage, for the message.
        named: what the user knows the folder as, if it is a copy.

    Raises:
        Damaged: a file is missing, or differs.
    """
    for name, expected in described.items():
        file, shown = pathlib.Path(folder) / name, epath.Path(named or folder) / name
        length = file.stat().st_size if file.exists() else 0
        if length != expected["bytes"]:
            raise Damaged(f"{shown} has {length} bytes instead of {expected['bytes']}: {fix}")
        if remembered_sha256(file) != expected["sha256"]:
            raise Damaged(f"{shown} differs from its checksum: {fix}")


def crc_of_json(values: dict) -> int:
    """CRC-32 of plain values, as they come back from a JSON file."""
    return zlib.crc32(json.dumps(json.loads(json.dumps(values)), sort_keys=True).encode())
