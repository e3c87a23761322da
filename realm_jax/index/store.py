"""Immutable index versions on disk: the only thing that the builder hands to the trainer.

    index/step-00000500-3f9a1c/   embeddings.npy, tower.safetensors, scann/, manifest.json (written last)
    index/history.jsonl           published, adopted (at which trainer step), pruned; never shortened
    index/history/                the same in a bucket, where no file can grow: one file for each event
    index/work/                   what the processes that build a version share (`shared_work`); goes with the draft

No manifest, no version: a folder without one is a draft, or a version on its way out, and readers do not see it.
In a bucket, drafts and versions in use have a local copy. `search.py` knows what the search's files mean.
"""

import contextlib
import errno
import os
import secrets
import time
from collections.abc import Mapping
from typing import final

import ml_dtypes
import numpy as np
from etils import epath
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.numpy import save_file

from realm_jax import __version__, faults
from realm_jax.buckets import copy_files, is_remote
from realm_jax.checksums import describe_files
from realm_jax.config import ConfigError
from realm_jax.index.claims import MANIFEST, OWNER, Renewed, claim, drop_lapsed_pins, is_abandoned, is_pinned, own_pin
from realm_jax.index.history import History
from realm_jax.index.shared_work import SharedWork, is_deserted
from realm_jax.index.version import EMBEDDINGS, TOWER, Version
from realm_jax.index.version_manifest import checksum
from realm_jax.local_cache import temporary_folder
from realm_jax.models.names import flatten
from realm_jax.workdir import write_json

WORK = "work"
NEXT = "manifest.next"
RETIRED = "manifest.pruned"
DAMAGED = "manifest.damaged"


@final
class Draft:
    """A version before it is published. As a context manager it removes what was not published."""

    def __init__(self, store: "IndexStore", step: int):
        self._store, self._step, self._started = store, step, time.time()
        self._target = store.folder / f"step-{step:08d}-{secrets.token_hex(3)}"
        self._matrix: np.memmap | None = None
        self._shape: dict = {}
        self._is_kept = False
        self._claim = Renewed(self._target / OWNER)
        self._local = temporary_folder() if is_remote(self._target) else None
        self.folder = epath.Path(self._local.name) / "files" if self._local else self._target
        """Local folder to write the version's files into."""
        self.folder.mkdir(exist_ok=True)

    def __enter__(self) -> "Draft":
        return self

    def __exit__(self, kind, error, trace) -> None:
        self.discard()
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ConfigError(f"no space left for index version {self._target}: free some and run again") from error

    def embeddings(self, num_blocks: int, dim: int, dtype: str) -> Float[np.ndarray, "blocks dim"]:
        """A writable memory map for the block embeddings; `dtype` is float32 or bfloat16.

        Raises:
            OSError: there is no space for all of it (asked for at once: writing to a map on a full disk is a crash).
        """
        stored = np.uint16 if dtype == "bfloat16" else np.float32  # .npy knows no bfloat16
        path = os.fspath(self.folder / EMBEDDINGS)
        self._matrix = np.lib.format.open_memmap(path, "w+", stored, (num_blocks, dim))
        if hasattr(os, "posix_fallocate"):
            with open(path, "r+b") as file:
                os.posix_fallocate(file.fileno(), 0, os.path.getsize(path))
        self._shape = {"num_blocks": num_blocks, "dim": dim, "dtype": dtype}
        return self._matrix.view(ml_dtypes.bfloat16) if dtype == "bfloat16" else self._matrix

    def save_tower(self, tower: Mapping) -> None:
        """Keeps the parameters of the block tower with the embeddings that it made, so that later blocks can join.

        Args:
            tower: nested as `Embedder`'s parameters; stored flat, under dotted names.

        Raises:
            ConfigError: it could not be written.
        """
        leaves = {name: np.ascontiguousarray(leaf, np.float32) for name, leaf in flatten(tower).items()}
        try:
            save_file(leaves, os.fspath(self.folder / TOWER))
        except (OSError, SafetensorError) as error:
            raise ConfigError(f"cannot write {self._target / TOWER}: {error}: free some space and run again") from error

    def publish(self, manifest_fields: dict) -> Version:
        """Makes the draft a version: checksums first, the manifest last.

        Args:
            manifest_fields: segment_hashes (list of str), tombstones (list of int), embedded_by, search (kind),
                search_info (dict), and others at will.
        """
        version = self._write(MANIFEST, manifest_fields)
        if self._local:
            version.keep_copy(lambda empty: os.rename(self.folder, empty))
        self._store.record_published(version)  # outlives the version
        return version

    def hand_over(self, manifest_fields: dict) -> Version:
        """Does all of `publish` but the last step: the caller then renames NEXT to MANIFEST. Not in a bucket."""
        version = self._write(NEXT, manifest_fields)
        self._is_kept = True
        return version

    def _write(self, name: str, manifest_fields: dict) -> Version:
        if self._matrix is not None:
            self._matrix.flush()
        files = describe_files(self.folder, but=(OWNER, f".{OWNER}"))
        if self._local:
            copy_files(files, self.folder, self._target)
        # A version comes after those of its step that are there, also where the clock was set back.
        others = [version.order[1] for version in self._store.versions() if version.step == self._step]
        finished = max([time.time(), *(other + 1e-3 for other in others)])
        times = {"started": self._started, "finished": finished, "seconds": round(finished - self._started, 3)}
        manifest = {"step": self._step, **self._shape, **manifest_fields, "builder_version": __version__, **times}
        manifest["files"] = files
        manifest["checksum"] = checksum(manifest)
        faults.point("manifest")
        write_json(self._target / name, manifest)
        self._claim.give_up()
        return Version(self._target, manifest)

    def discard(self) -> None:
        """Removes what is not part of a published version."""
        self._claim.give_up()
        if self._local:
            self._local.cleanup()
        if not self._is_kept and not (self._target / MANIFEST).exists():
            self._target.rmtree(missing_ok=True)


class IndexStore(History):
    """All versions in one folder, shared by builders and trainers."""

    def begin(self, step: int) -> Draft:
        """Starts a version from the weights of trainer step `step`; two drafts of one step never meet."""
        return Draft(self, step)

    def shared_work(self, step: int, weights: str) -> SharedWork:
        """The work of those that build the version of a step from the same weights."""
        return SharedWork(self.folder / WORK / f"{step:08d}-{weights}")

    def works(self) -> list[epath.Path]:
        """Folders of the versions that are being built, or were."""
        return sorted((self.folder / WORK).glob("*"))

    def versions(self) -> list[Version]:
        """Published versions by step, then by time."""
        found = []
        for folder in self._folders():
            with contextlib.suppress(FileNotFoundError):
                found.append(Version.read(folder))
        return sorted(found, key=lambda version: version.order)

    def whole_versions(self) -> list[Version]:
        """Those of them that can say what they are: their manifests are not damaged."""
        return [version for version in self.versions() if not version.is_damaged]

    def latest(self, up_to: int | None = None) -> Version | None:
        """The newest version, of a step up to `up_to` where that is given; None if there is none."""
        within = [version for version in self.versions() if up_to is None or version.step <= up_to]
        return within[-1] if within else None

    def pin(self, version: Version) -> bool:
        """Keeps a version from `prune` while this process lives, for a day at most: pin again to renew.

        Returns:
            False if the version was pruned meanwhile: take the latest instead.
        """
        drop_lapsed_pins(version.folder)
        try:
            claim(own_pin(version.folder))
        except ConfigError:
            if (version.folder / MANIFEST).exists():
                raise
            return False  # its folder was removed under our hands
        # `prune` hides the manifest and then looks for pins; we do the reverse, so that one of us sees the other.
        if (version.folder / MANIFEST).exists():
            return True
        self.unpin(version)
        return False

    def pin_latest(self, up_to: int | None = None) -> Version | None:
        """Pins the version that `latest` finds, and returns it."""
        while (version := self.latest(up_to)) is not None and not self.pin(version):
            continue  # pruned since we saw it
        return version

    def unpin(self, version: Version) -> None:
        """Takes this process's pin off the version."""
        own_pin(version.folder).unlink(missing_ok=True)

    def set_aside(self, version: Version) -> None:
        """Takes a damaged version from all readers; its files stay for a look at them."""
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            (version.folder / MANIFEST).replace(version.folder / DAMAGED)
            self.record("damaged", version=version.name, step=version.step)

    def prune(self, keep: int, but: Version | None = None) -> list[str]:
        """Removes versions older than the newest `keep` unless they are pinned, and what dead builders left.

        Args:
            but: is kept too.

        Returns:
            Names of the removed versions.
        """
        older = [version for version in self.versions()[:-keep] if but is None or version.name != but.name]
        if any([_retire(version.folder) for version in older]):
            faults.point("prune")
        return self.tidy()

    def tidy(self) -> list[str]:
        """Removes what a killed `prune` had hidden, and what dead builders left; returns as `prune` does."""
        removed = []
        for folder in self._folders():
            is_retired = (folder / RETIRED).exists() and not is_pinned(folder)
            is_unclaimed = is_abandoned(folder)  # asked first: a draft has its manifest before its owner goes
            is_kept = (folder / MANIFEST).exists() or (folder / DAMAGED).exists()
            if is_retired:
                removed.append(folder.name)
            if is_retired or not is_kept and is_unclaimed:
                folder.rmtree(missing_ok=True)
            else:
                drop_lapsed_pins(folder)
        for folder in self.works():
            if is_deserted(folder):
                folder.rmtree(missing_ok=True)
        for name in removed:
            self.record("pruned", version=name)
        return removed

    def record_published(self, version: Version) -> None:
        """Records when a version appeared, how long it took and how well its embeddings find blocks."""
        told = {name: version.manifest[name] for name in ("seconds", "probe") if name in version.manifest}
        self.record("published", version=version.name, step=version.step, **told)

    def _folders(self) -> list[epath.Path]:
        return sorted(self.folder.glob("step-*"))


def _retire(folder: epath.Path) -> bool:
    """Hides a version from readers unless it is pinned."""
    if is_pinned(folder):
        return False
    try:
        (folder / MANIFEST).replace(folder / RETIRED)
    except FileNotFoundError:  # another process was faster
        return False
    if is_pinned(folder):  # pinned between the two lines above
        (folder / RETIRED).replace(folder / MANIFEST)
        return False
    return True
