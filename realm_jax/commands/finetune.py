"""Fine-tunes a run on questions, and keeps the checkpoint with the best exact match on development questions.

realm finetune --workdir=W --dataset=wq
realm finetune --workdir=W --dataset=nq,wq,ct
realm finetune --workdir=W --dataset=TRAIN.jsonl --dev=DEV.jsonl
"""

import dataclasses
import sys
from typing import Literal

import tyro

from realm_jax.commands import cli
from realm_jax.config import FinetuneConfig
from realm_jax.paths import quoted
from realm_jax.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class _Flags:
    finetune: FinetuneConfig
    workdir: cli.PathFlag = ""
    """Folder of the run (default: the newest under runs/)."""
    dataset: cli.PathFlag = "cloze"
    """nq, wq, ct, trivia, squad_open, a file of questions (of any form in docs/formats.md), or cloze: sentences of the
    run's own corpus with a blank, which need no questions. Several with commas are learned together."""
    columns: str = ""
    """Names of the files' fields, if they are others: question=COLUMN,answers=COLUMN (or answer_regex=, id=)."""
    dev: cli.PathFlag = ""
    """Development questions beside a file; default: a tenth of it, by a hash."""
    data_dir: cli.PathFlag = ""
    """Folder with local copies of a named dataset; default: TensorFlow Datasets' own."""
    name: str = ""
    """Name of this fine-tuning under W/finetune/; default: the dataset's."""
    preset: Literal["", "orqa", "realmpp"] = ""
    """Published settings that the other flags override: orqa (Lee et al. 2019, as REALM does), realmpp (after
    Balachandran et al. 2021: batches, more blocks to the reader); docs/openqa.md names the source of each."""


def main(argv: list[str] | None = None) -> None:
    """Entry point."""
    argv = sys.argv[1:] if argv is None else argv
    asks_help = any(flag in ("-h", "--help") for flag in argv)
    workdir = None if asks_help else cli.existing(cli.early_path(argv, "--workdir"))
    flags = tyro.cli(
        _Flags,
        description="Fine-tune a run on questions.",
        args=argv,
        default=_Flags(finetune=_first_settings(argv, workdir)),
        config=(tyro.conf.FlagConversionOff,),
    )
    from realm_jax.data.questions import datasets
    from realm_jax.training.finetune import finetune

    cli.start_jax()
    questions = {"dev": flags.dev, "columns": flags.columns, "data_dir": flags.data_dir}
    finetune(workdir, flags.dataset, flags.finetune, name=flags.name, **questions)
    first, *more = datasets.sets_of(flags.dataset)
    by = f" --finetuning={quoted(flags.name or datasets.folder_name(flags.dataset))}" if more else ""
    print(f"next: realm eval --workdir={quoted(workdir.path)} --dataset={quoted(first)}{by}", flush=True)


def _first_settings(argv: list[str], workdir: Workdir | None) -> FinetuneConfig:
    """What the other flags override."""
    if workdir is None:  # --help
        return FinetuneConfig()
    from realm_jax.training.finetune import first_settings

    name, preset = (cli.early_flag(argv, flag) for flag in ("--name", "--preset"))
    return first_settings(workdir, cli.early_flag(argv, "--dataset") or "cloze", name=name, preset=preset)
