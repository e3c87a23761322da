"""The request of an evaluation, and its results."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from etils import epath

from realm_jax.records import Question


@dataclass(frozen=True)
class Request:
    """The questions that a run is asked, and how it is to answer them."""

    dataset: str = ""
    """Name or file, as `datasets.load` takes it; by default what the run was fine-tuned on last, else `cloze`."""
    columns: str = ""
    """Names of a file's fields where they are not the usual ones, as `datasets.load` takes them."""
    split: Literal["train", "dev", "test"] = "test"
    """Part of a named dataset; a file counts as a whole under `test`."""
    data_dir: str = ""
    """Folder with local copies of a named dataset."""
    finetuning: str = ""
    """Name of the fine-tuning; by default the dataset's, else the newest."""
    states: tuple[str, ...] = ()
    """States of the run whose zero-shot retrieval is measured, by names of `zero_shot.STATES`; all by default."""
    baselines: tuple[str, ...] = ()
    """Names of `question_answering.BASELINES` to set beside the run, or `all` as the only one."""
    blocks: tuple[int, ...] = ()
    """How many blocks the reader sees for each question; none means finetune.inference_blocks. Of several numbers the
    report shows the exact match by them, and all else for finetune.inference_blocks."""
    questions: int = 0
    """How many questions are asked, from the first on; 0 means all."""
    files: Mapping[str, str] = field(default_factory=dict)
    """The files that rankings are written to, by form (`ranking_files`)."""


@dataclass(frozen=True)
class Asked:
    """The questions of a request."""

    dataset: str
    """Name or file of the set."""
    whole: list[Question]
    """All questions of the set, by whose content its reports are known."""
    questions: list[Question]
    """Those that are asked."""


@dataclass(frozen=True)
class Recall:
    """Recall of retrieval, and the file that it is written to."""

    over: str
    """What counts as found, and for how many of the questions."""
    table: dict
    """Mean recall by state of the run and measure; empty where the questions name no passage."""
    file: epath.Path | None
    """The table as JSON."""
    sample: str = ""
    """Says which blocks are searched, if not all."""


@dataclass(frozen=True)
class Answers:
    """The report on the answers, and the folder that it is written to."""

    results: dict
    """As in results.json."""
    markdown: str
    """The report."""
    folder: epath.Path
    """Has report.html, report.md, results.json and predictions.jsonl."""
