"""The files of one published index version: found, checked against its manifest, and mapped into memory."""

import hashlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import ml_dtypes
import numpy as np
from etils import epath
from jaxtyping import Bool, Float
from safetensors.numpy import load_file

from realm_jax.buckets import copy_files, is_remote
from realm_jax.checksums import Damaged, check_files
from realm_jax.config import ConfigError
from realm_jax.data.corpus import Corpus
from realm_jax.index.version_manifest import FIX, read_manifest
from realm_jax.local_cache import Held
from realm_jax.models.names import unflatten

EMBEDDINGS = "embeddings.npy"
TOWER = "tower.safetensors"


class Version:
    """One published index version, of which the manifest may be damaged: who asks for it is told."""

    def __init__(self, folder: epath.Path, manifest: dict | Damaged):
        self.folder, self._manifest = folder, manifest
        self.is_damaged = isinstance(manifest, Damaged)
        """Whether the manifest is; `verify` finds all damage."""
        self.name: str = folder.name
        self.step = int(self.name.split("-")[1])
        """Trainer step of the weights that embedded the blocks."""
        self.order: tuple[int, float] = (self.step, 0.0 if self.is_damaged else self.manifest["finished"])
        """Grows from version to version."""
        self._copy: Held | None = None

    @classmethod
    def read(cls, folder: epath.Path) -> "Version":
        """The version in a folder. Raises FileNotFoundError if there is none."""
        try:
            return cls(folder, read_manifest(folder))
        except Damaged as damaged:
            return cls(folder, damaged)

    @property
    def manifest(self) -> dict:
        """What the manifest says. Raises Damaged if it is not what was written."""
        if isinstance(self._manifest, Damaged):
            raise self._manifest
        return self._manifest

    @property
    def has_tower(self) -> bool:
        """Whether the block tower is among the files."""
        return TOWER in self.manifest["files"]

    def local_folder(self) -> epath.Path:
        """The folder itself; if the store is remote, a checked copy in the cache that stays as long as this object.

        Raises:
            Damaged: a file of a remote version differs from what was written.
        """
        if not is_remote(self.folder):
            return self.folder
        if self._copy is None:
            self.keep_copy(self._download)
        return epath.Path(self._copy.folder)

    def keep_copy(self, fill: Callable[[Path], None]) -> None:
        """Has a copy of a remote version in the cache; `fill` writes its files if it is not there."""
        store = hashlib.sha256(os.fspath(self.folder.parent).encode()).hexdigest()[:8]
        self._copy = Held(f"index/{self.name}-{store}", fill)

    def _download(self, folder: Path) -> None:
        copy_files(self.manifest["files"], self.folder, epath.Path(folder))
        check_files(folder, self.manifest["files"], FIX, self.folder)

    def load_embeddings(self) -> Float[np.ndarray, "blocks dim"]:
        """Maps the embeddings into memory, read-only. Raises Damaged if a file is."""
        self.verify()
        embeddings = np.load(self.local_folder() / EMBEDDINGS, mmap_mode="r")
        return embeddings.view(ml_dtypes.bfloat16) if self.manifest["dtype"] == "bfloat16" else embeddings

    def load_tower(self) -> dict:
        """The block tower that embedded the blocks, float32 on the host: an `Embedder`'s parameters.

        Raises:
            ConfigError: it is not among the files, or damaged.
        """
        if not self.has_tower:
            raise ConfigError(
                f"{self.folder} lacks the block tower that made it, which new blocks need: {FIX}, "
                "or convert again with that embedder as a further SOURCE"
            )
        self.verify()
        return unflatten(load_file(self.local_folder() / TOWER))

    def live_blocks(self, corpus: Corpus) -> Bool[np.ndarray, " blocks"]:
        """Which blocks of this version a process may find that has `corpus` open: those that it knows, if not deleted.

        The corpus on disk may have grown since it was opened, and this version with it; a process keeps to the blocks
        it began with, but a deletion holds at once.

        Raises:
            ConfigError: the version was built over another corpus.
        """
        now = Corpus.open(corpus.folder)
        self.check_corpus(now.segment_hashes)
        opened, embedded = corpus.segment_hashes, self.manifest["segment_hashes"]
        if opened[: len(embedded)] != embedded[: len(opened)]:
            raise ConfigError(f"{corpus.folder} was compacted since this command opened it: run it again")
        live = now.live[: self.manifest["num_blocks"]]
        live[corpus.num_blocks :] = False
        return live

    def is_current(self, corpus: Corpus) -> bool:
        """Whether the version has all segments and tombstones of the corpus."""
        found = self.manifest["segment_hashes"], self.manifest.get("tombstones", [])
        return found == (corpus.segment_hashes, corpus.tombstones.tolist())

    def verify(self) -> None:
        """Checks the files against the manifest's sizes and checksums; reads a file that stays the same once.

        Raises:
            Damaged: a file is missing or differs from what was written, the manifest among them.
        """
        check_files(self.local_folder(), self.manifest["files"], FIX, self.folder)

    def check_corpus(self, segment_hashes: Sequence[str]) -> None:
        """Raises ConfigError unless the corpus is the one that was embedded, or that one with segments appended."""
        for i, embedded in enumerate(self.manifest["segment_hashes"]):
            found = segment_hashes[i] if i < len(segment_hashes) else "missing"
            if found != embedded:
                raise ConfigError(
                    f"{self.folder} was built over another corpus: its segment {i} was {embedded} and is now {found}: "
                    f"restore that corpus, or {FIX}"
                )
