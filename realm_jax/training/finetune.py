"""Fine-tunes a run on questions, and keeps the checkpoint with the best exact match on development questions.

python -m realm_jax.training.finetune --workdir=W --dataset=wq
python -m realm_jax.training.finetune --workdir=W --dataset=TRAIN.jsonl --dev=DEV.jsonl
"""

import dataclasses
import logging
import re
import sys
from typing import TYPE_CHECKING, Literal

import tyro

from realm_jax import cli
from realm_jax.config import CONVERTED, ConfigError, FinetuneConfig
from realm_jax.paths import quoted
from realm_jax.training.presets import PRESETS
from realm_jax.workdir import Workdir

if TYPE_CHECKING:
    from realm_jax.records import Question
    from realm_jax.training.finetuning import Finetuning

log = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class _Flags:
    finetune: FinetuneConfig
    workdir: cli.PathFlag = ""
    """Folder of the run (default: the newest under runs/)."""
    dataset: cli.PathFlag = "cloze"
    """nq, wq, ct, trivia, squad_open, a file of questions (of any form in docs/formats.md), or cloze: sentences of the
    run's own corpus with a blank, which need no questions."""
    columns: str = ""
    """Where files name their fields otherwise: question=COLUMN,answers=COLUMN (or answer_regex=, id=)."""
    dev: cli.PathFlag = ""
    """Development questions beside a file; default: a tenth of it, by a hash."""
    data_dir: cli.PathFlag = ""
    """Folder with local copies of a named dataset; default: TensorFlow Datasets' own."""
    name: str = ""
    """Of this fine-tuning under W/finetune/; default: the dataset's."""
    preset: Literal["", "orqa", "realmpp"] = ""
    """Published settings that the other flags override: orqa (Lee et al. 2019, as REALM does), realmpp (after
    Balachandran et al. 2021: batches, more blocks to the reader); docs/openqa.md names the source of each."""


def train(finetuning: "Finetuning", train_questions: "list[Question]", dev_questions: "list[Question]") -> None:
    """Trains, or goes on from the last checkpoint; does nothing once it is done."""
    from realm_jax import hosts, parallel
    from realm_jax.data.prepare import open_prepared
    from realm_jax.openqa.predict import Answerer
    from realm_jax.training import loop
    from realm_jax.training.builder_process import BuilderProcess
    from realm_jax.training.finetune_task import FinetuneTask, trainable

    if finetuning.is_done:
        log.info(f"{finetuning.folder}: is done")
        return
    parallel.set_up_compilation_cache()
    hosts.join()
    config, settings = finetuning.config, finetuning.config.finetune
    trainable(train_questions, settings)  # before an index is built in vain
    data = open_prepared(finetuning.workdir)
    first = finetuning.first_params()
    store = finetuning.index_store(data, first)
    dev_questions = dev_questions[: settings.dev_questions or None]

    def exact_match(params: dict) -> float:
        answerer = Answerer(config, data, params, finetuning.exact_index(data, params, store))
        answered = answerer.answer(dev_questions, num_blocks=settings.inference_blocks, depth=1, name="development")
        return sum(p.is_correct for p in answered) / len(answered)

    def build(step: int, towers: dict) -> None:
        finetuning.build_version(store, data, step, towers)

    moves = settings.train_retriever == "both"
    inline = build if moves and config.index.device == "inline" else None
    task = FinetuneTask(config, data, train_questions, store, first, exact_match, finetuning.folder, inline)
    del first
    builder, follow = None, f"--finetuning={finetuning.name}"
    if moves and config.index.device == "cpu" and hosts.is_first():
        builder = BuilderProcess(finetuning.workdir, follow)
    elif moves and config.index.device == "accelerator" and hosts.is_first():
        where = f"--workdir={quoted(finetuning.workdir.path)}"
        log.info(f"on the builder's machine: python -m realm_jax.index.builder {where} {follow}")
    try:
        loop.run(task, finetuning.folder)
        hosts.on_first(lambda: finetuning.workdir.mark_done(finetuning.phase, task.steps))
        if builder:
            builder.finish()
    finally:
        if builder:
            builder.stop()


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
    from realm_jax import hosts
    from realm_jax.data import datasets
    from realm_jax.data.prepare import open_prepared
    from realm_jax.data.questions import content_hash
    from realm_jax.training.finetuning import Finetuning

    name = flags.name or datasets.folder_name(flags.dataset)
    if name == CONVERTED or not re.fullmatch(r"[^./][^/]*", name):
        raise ConfigError(f"{name!r} cannot be the name of a fine-tuning: pass --name=ANOTHER, without slashes")
    run, config = open_prepared(workdir), dataclasses.replace(workdir.config, finetune=flags.finetune)
    files = {"dev": flags.dev, "columns": flags.columns}
    splits = {
        split: datasets.load(flags.dataset, split, data_dir=flags.data_dir, run=run, config=config, **files)
        for split in ("train", "dev")
    }
    if not splits["dev"]:
        raise ConfigError(f"{flags.dataset}: no development questions: pass --dev=FILE.jsonl")
    content = {split: content_hash(found) for split, found in splits.items()}
    files |= {"dev": datasets.from_anywhere(flags.dev), "content": content}
    finetuning = Finetuning.create(workdir, name, datasets.from_anywhere(flags.dataset), flags.finetune, **files)
    with hosts.only_trainer(finetuning.folder / "trainer.lock", f"{finetuning.folder} is being trained"):
        train(finetuning, *splits.values())
    print(
        f"next: python -m realm_jax.eval --workdir={quoted(workdir.path)} --dataset={quoted(flags.dataset)}", flush=True
    )


def _first_settings(argv: list[str], workdir: Workdir | None) -> FinetuneConfig:
    """What the other flags override: the settings that this fine-tuning was begun with, else the run's, under a preset.

    So a preset that this fine-tuning was not begun with is a difference like any other, which `create` refuses.
    """
    if workdir is None:  # --help
        return FinetuneConfig()
    from realm_jax.data import datasets
    from realm_jax.training.finetuning import Finetuning

    name = cli.early_flag(argv, "--name") or datasets.folder_name(cli.early_flag(argv, "--dataset") or "cloze")
    begun = Finetuning.open(workdir, name).config if Finetuning.exists(workdir, name) else workdir.config
    preset = PRESETS.get(cli.early_flag(argv, "--preset"), {})
    return dataclasses.replace(begun.finetune, **preset)


def command() -> None:
    """Console script."""
    cli.run(main)


if __name__ == "__main__":
    command()
