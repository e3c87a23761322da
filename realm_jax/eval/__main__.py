"""Scores a run.

python -m realm_jax.eval --workdir=W --only=recall --dataset=QUESTIONS.jsonl
python -m realm_jax.eval --workdir=W --only=recall                              (held-out sentences, no questions)
"""

import dataclasses
import pathlib
from typing import Literal

import tyro

from realm_jax import cli
from realm_jax.workdir import write_json


@dataclasses.dataclass(frozen=True)
class _Flags:
    workdir: str = ""
    """Folder of the run (default: the newest under runs/)."""
    dataset: str = ""
    """JSON lines of {question, gold_passage}; empty: held-out sentences of the run's own corpus."""
    only: Literal["recall"] = "recall"
    """What to score: zero-shot retrieval."""


def main(argv: list[str] | None = None) -> None:
    """Entry point."""
    flags = tyro.cli(_Flags, description="Score a run's retrieval.", args=argv)
    workdir = cli.existing(flags.workdir)
    from realm_jax import parallel
    from realm_jax.eval import retrieval

    parallel.set_up_compilation_cache()
    if flags.dataset:
        table, name = retrieval.question_recall(workdir, flags.dataset), pathlib.Path(flags.dataset).name.split(".")[0]
    else:
        table, name = retrieval.heldout_recall(workdir), "heldout"
    file = workdir.path / "eval" / name / "recall.json"
    write_json(file, {"dataset": flags.dataset or "held-out sentences", "recall": retrieval.as_json(table)})
    print(retrieval.show(table))
    print(f"written: {file}", flush=True)


def command() -> None:
    """Console script."""
    cli.run(main)


if __name__ == "__main__":
    command()
