"""What an evaluation is asked, and what it gives back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from etils import epath

from realm_jax.records import Question


@dataclass(frozen=True)
class Request:
    """What a run is asked."""

    dataset: str = ""
    """Name or file, as `datasets.load` takes it; by default what the run was fine-tuned on last, else `cloze`."""
    columns: str = ""
    """Where a file names its fields otherwise, as `datasets.load` takes it."""
    split: Literal["train", "dev", "test"] = "test"
    """Part of a named dataset; a file counts as a whole under `test`."""
    data_dir: str = ""
    """Folder with local copies of a named dataset."""
    finetuning: str = ""
    """Name of the fine-tuning; by default the dataset's, else the newest."""
    baselines: tuple[str, ...] = ()
    """Names of `question_answering.BASELINES` to set beside the run, or `all` as the only one."""
    blocks: int = 0
    """Blocks that the reader sees; 0 means finetune.inference_blocks."""
    questions: int = 0
    """First questions that are asked; 0 means all."""
    files: Mapping[str, str] = field(default_factory=dict)
    """Where rankings are written, by form (`ranking_files`); empty where they are not."""


@dataclass(frozen=True)
class Asked:
    """The questions of a request."""

    dataset: str
    """Its name or file."""
    whole: list[Question]
    """All questions of the set, by whose content its reports are known."""
    questions: list[Question]
    """Those that are asked."""


@dataclass(frozen=True)
class Recall:
    """What was found without an answer, and where that is written."""

    over: str
    """What the recall is over."""
    table: dict
    """Mean recall by state of the run and measure; empty where the questions name no passage."""
    file: epath.Path | None
    """The table as JSON."""


@dataclass(frozen=True)
class Answers:
    """What was answered, and where that is written."""

    results: dict
    """As in results.json."""
    markdown: str
    """The report."""
    folder: epath.Path
    """Has report.html, report.md, results.json and predictions.jsonl."""
