"""Places where the tests of reliability end processes, if the environment says so.

    REALM_JAX_FAULT=COMMAND:POINT[:N]      when `realm COMMAND` comes to POINT for the N-th time, by default the first
    REALM_JAX_FAULT_SENDS=SIGNAL[:WHOM]    SIGKILL, SIGTERM or SIGINT; to itself, to the `other` one of trainer and
                                           builder, or to `both`
    REALM_JAX_FAULT_SAYS=FILE              is made then; nothing happens where it is there already

Without these variables a place costs one comparison.
"""

import collections
import os
import pathlib
import signal
import sys

import psutil

POINTS = {
    "start": "the command begins",
    "corpus": "the corpus is built, and not yet the run's",
    "compile": "before the first step of a phase",
    "ict step": "a step of ICT is taken",
    "pretrain step": "a step of pre-training is taken",
    "finetune step": "a step of fine-tuning is taken",
    "tag step": "a step of a tagger's training is taken",
    "checkpoint": "a checkpoint is being written",
    "committed": "checkpoints are on disk",
    "embedding": "a batch of blocks is embedded for an index version",
    "search files": "all blocks are embedded, and the search's files are to be made",
    "manifest": "all files of a version are there but its manifest",
    "published": "a version is published, and older ones are to be pruned",
    "prune": "an older version is hidden, and still there",
    "adopting": "training switches to a newer version",
    "last index": "training is done, and the last weights are to be indexed",
    "evaluation": "a state is to be evaluated on held-out sentences",
    "dev questions": "development questions are to be answered",
    "answers": "answers are to be written",
}
_wanted = os.environ.get("REALM_JAX_FAULT", "")
_passed: collections.Counter[str] = collections.Counter()


def point(name: str) -> None:
    """Says that this process has come to one of `POINTS`. Raises ValueError for another name, where one is wanted."""
    if not _wanted:
        return
    command, wanted, *times = _wanted.split(":")
    if wanted not in POINTS or name not in POINTS:
        raise ValueError(f"there is no point {wanted} or {name}")
    if wanted != name or sys.argv[0] != f"realm {command}":
        return
    _passed[name] += 1
    if _passed[name] == int(times[0] if times else 1):
        _end()


def _end() -> None:
    try:
        pathlib.Path(os.environ["REALM_JAX_FAULT_SAYS"]).touch(exist_ok=False)
    except FileExistsError:
        return
    name, _, whom = os.environ.get("REALM_JAX_FAULT_SENDS", "SIGKILL").partition(":")
    others = [] if not whom else [os.getppid()] if sys.argv[0] == "realm builder" else _children()
    for pid in [*others, *([] if whom == "other" else [os.getpid()])]:
        os.kill(pid, signal.Signals[name])


def _children() -> list[int]:
    return [process.pid for process in psutil.Process().children() if "builder" in process.cmdline()]
