"""Huge pages for what a CPU's steps allocate: without them a quarter of a step and more is page faults.

XLA on a CPU allocates a program's temporaries afresh in every step. glibc asks Linux for huge pages if an environment
variable says so as a process starts; no later call can.
"""

import os
import pathlib
import sys

VARIABLE, SETTING = "GLIBC_TUNABLES", "glibc.malloc.hugetlb"
MODE = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")


def ensure() -> None:
    """Starts this program again with the variable, unless it is set, or Linux gives huge pages unasked, or never.

    Must come before all else: what the process had done is lost. Its number stays, and so do its files and signals.
    """
    settings = os.environ.get(VARIABLE, "")
    if SETTING in settings or not is_offered():
        return
    os.environ[VARIABLE] = ":".join(filter(None, (settings, f"{SETTING}=1")))
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def is_offered() -> bool:
    """Whether Linux gives huge pages to those that ask; elsewhere there is no such file."""
    try:
        return "[madvise]" in MODE.read_text(encoding="utf-8")
    except OSError:
        return False
