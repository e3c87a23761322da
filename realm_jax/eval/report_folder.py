"""Chooses the folder for the reports on a question set, which is known by the hash of its content, not by its name.

`W/eval/NAME[.FINETUNING]`, and `W/eval/NAME-HASH[.FINETUNING]` for other questions of the same name.
"""

import logging
from collections.abc import Sequence

from etils import epath

from realm_jax.data.questions import datasets, questions
from realm_jax.records import Question
from realm_jax.workdir import read_json, write_json

log = logging.getLogger(__name__)

IDENTITY = "questions.json"
HELDOUT = "heldout"
"""Folder for the reports on held-out sentences, which are no question set."""
HASH_LEN = 8  # hexadecimal digits


def report_folder(
    root: epath.Path, dataset: str, split: str, asked: Sequence[Question], finetuning: str = ""
) -> epath.Path:
    """Makes the folder and marks it with the hash of the whole set; a file that was moved keeps its folder.

    Args:
        root: folder of all reports.
        asked: all questions of the set, however many of them are asked.
        finetuning: the one whose answers are reported; it is part of the name unless it has the set's name.
    """
    content = questions.content_hash(asked)
    name = datasets.folder_name(dataset) + (f"-{split}" if split != "test" else "")
    ending = f".{finetuning}" if finetuning not in ("", datasets.folder_name(dataset)) else ""
    folder = root / f"{name}{ending}"
    if name == HELDOUT or not _is_free(folder, dataset, content):
        folder = root / f"{name}-{content[:HASH_LEN]}{ending}"
        log.info(f"{root / name} is about other questions of that name: these get {folder.name}")
    write_json(folder / IDENTITY, {"dataset": dataset, "split": split, "sha256": content, "questions": len(asked)})
    return folder


def _is_free(folder: epath.Path, dataset: str, content: str) -> bool:
    """Whether a folder has no reports on other questions; those of older versions are known by their dataset's name."""
    if (folder / IDENTITY).exists():
        known = read_json(folder / IDENTITY)
        if dataset == "cloze":  # the run's own, whatever it became
            return known["dataset"] == dataset
        return known["sha256"] == content
    reports = [read_json(folder / name) for name in ("results.json", "recall.json") if (folder / name).exists()]
    return all(report.get("facts", report).get("dataset") == dataset for report in reports)
