"""The files of one published index version: found, checked against its manifest, and mapped into memory."""

import hashlib
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import ml_dtypes
import numpy as np
from etils import epath
from jaxtyping import Float

from realm_jax.config import ConfigError
from realm_jax.index.claims import OWNER

EMBEDDINGS = "embeddings.npy"
FIX = "delete this index version and build a new one"


class Version:
    """One published index version."""

    def __init__(self, folder: epath.Path, manifest: dict):
        self.folder, self.manifest = folder, manifest
        self.name: str = folder.name
        self.step: int = manifest["step"]
        """Trainer step of the weights that embedded the blocks."""
        self._copy: tempfile.TemporaryDirectory | None = None

    def local_folder(self) -> epath.Path:
        """The folder itself; if the store is remote, a copy that lives as long as this object."""
        if not is_remote(self.folder):
            return self.folder
        if self._copy is None:
            self._copy = tempfile.TemporaryDirectory(prefix="realm-index-")
            copy_files(self.manifest["files"], self.folder, epath.Path(self._copy.name))
        return epath.Path(self._copy.name)

    def load_embeddings(self) -> Float[np.ndarray, "blocks dim"]:
        """Maps the embeddings into memory, read-only, after a quick `verify`."""
        self.verify()
        embeddings = np.load(self.local_folder() / EMBEDDINGS, mmap_mode="r")
        return embeddings.view(ml_dtypes.bfloat16) if self.manifest["dtype"] == "bfloat16" else embeddings

    def verify(self, *, quick: bool = True) -> None:
        """Checks the files against the manifest: their sizes, and unless `quick` their sha256.

        Raises:
            ConfigError: a file is missing or damaged.
        """
        for name, expected in self.manifest["files"].items():
            file = self.folder / name
            length = file.stat().length if file.exists() else 0
            if length != expected["bytes"]:
                raise ConfigError(f"{file} has {length} bytes instead of {expected['bytes']}: {FIX}")
            if not quick and _sha256(file) != expected["sha256"]:
                raise ConfigError(f"{file} differs from its checksum: {FIX}")

    def check_corpus(self, segment_hashes: Sequence[str]) -> None:
        """Raises ConfigError unless the corpus is the one that was embedded, or that one with segments appended."""
        for i, embedded in enumerate(self.manifest["segment_hashes"]):
            found = segment_hashes[i] if i < len(segment_hashes) else "missing"
            if found != embedded:
                raise ConfigError(
                    f"{self.folder} was built over another corpus: its segment {i} was {embedded} and is now {found}: "
                    f"restore that corpus, or {FIX}"
                )


def is_remote(path: epath.Path) -> bool:
    """Whether the path is on an object store."""
    return "://" in os.fspath(path)


def describe_files(folder: epath.Path) -> dict:
    """Size and checksum of every file, by its path within the local folder."""
    files = [path for path in Path(folder).rglob("*") if path.is_file() and path.name != OWNER]
    return {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": _sha256(path)}
        for path in sorted(files)
    }


def copy_files(files: dict, source: epath.Path, target: epath.Path) -> None:
    """Copies the files that `describe_files` lists from one folder to another."""
    for name in files:
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).copy(target / name, overwrite=True)


def _sha256(file: epath.Path | Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
