"""A new folder of a corpus, which appears when it is complete.

On a disk it is written beside its place and renamed. To a bucket it is copied, with the manifest last: without one,
nobody takes it for a corpus.
"""

import contextlib
import errno
import os
import pathlib
import shutil
from collections.abc import Iterator

from etils import epath

from realm_jax.buckets import is_remote, upload
from realm_jax.config import ConfigError
from realm_jax.data.manifest import MANIFEST
from realm_jax.local_cache import temporary_folder


@contextlib.contextmanager
def new_folder(folder: epath.Path) -> Iterator[pathlib.Path]:
    """Makes a local folder that becomes `folder` at the end, or is deleted on any error.

    Raises:
        ConfigError: the disk is full.
    """
    temporary = temporary_folder() if is_remote(folder) else None
    partial = pathlib.Path(temporary.name if temporary else folder.parent) / f"{folder.name}.partial"
    shutil.rmtree(partial, ignore_errors=True)  # left by a build that was killed
    try:
        partial.mkdir(parents=True)
        yield partial
        if temporary:
            upload(partial, folder, last=MANIFEST)
        else:
            os.replace(partial, folder)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise ConfigError(f"{folder}: no disk space left: free some or pass another --workdir") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def is_used(folder: epath.Path) -> bool:
    """Whether a build would spoil something that is there. What a killed build left in a bucket does not count."""
    if is_remote(folder):
        return (folder / MANIFEST).exists()
    return folder.exists() and (not folder.is_dir() or any(folder.iterdir()))
