"""A change of several files that happens whole: what is to be done is written down in one file, then done.

From the moment that file is there, the change has happened: whoever opens the folder finishes what a killed process
left. On a disk only; every step may be done twice.
"""

import contextlib
import os
import shutil

from etils import epath

from realm_jax.buckets import is_remote
from realm_jax.workdir import read_json, write_json

JOURNAL = "redo.json"


def commit(folder: epath.Path, *, replace: list[tuple[str, str]], remove: list[str]) -> None:
    """Writes the change down, then makes it.

    Args:
        replace: (file, the name that it takes) pairs, as paths within the folder, in the order in which they are moved.
        remove: folders to delete afterwards, if they still exist.
    """
    write_json(folder / JOURNAL, {"replace": replace, "remove": remove})
    finish(folder)


def finish(folder: epath.Path) -> None:
    """Finishes a change that was left half done, if there is one."""
    if is_remote(folder) or not (folder / JOURNAL).exists():
        return
    try:
        found = read_json(folder / JOURNAL)
    except FileNotFoundError:  # somebody else has just finished it
        return
    for file, name in found["replace"]:
        with contextlib.suppress(FileNotFoundError):  # it was done before, or is just being done by somebody else
            os.replace(folder / file, folder / name)
    for name in found["remove"]:
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / JOURNAL).unlink(missing_ok=True)
