"""Fine-tunes a run on questions, and keeps the checkpoint with the best exact match on development questions."""

import dataclasses
import functools
import logging
import re

from realm_jax import processes
from realm_jax.config import CONVERTED, ConfigError, FinetuneConfig
from realm_jax.data.prepare import open_prepared
from realm_jax.data.questions import datasets
from realm_jax.data.questions.questions import content_hash
from realm_jax.index.own_versions import OwnVersions
from realm_jax.openqa.predict import Answerer
from realm_jax.paths import quoted
from realm_jax.records import Question
from realm_jax.training import fit, loop
from realm_jax.training.builder_process import BuilderProcess
from realm_jax.training.finetune_search import measure_search
from realm_jax.training.finetune_task import FinetuneTask, steps_in_all, trainable
from realm_jax.training.finetuning import FOLDER, Finetuning
from realm_jax.training.only_trainer import only_trainer
from realm_jax.training.presets import PRESETS
from realm_jax.workdir import Workdir

log = logging.getLogger(__name__)


def finetune(
    workdir: Workdir,
    dataset: str,
    settings: FinetuneConfig,
    *,
    name: str = "",
    dev: str = "",
    columns: str = "",
    data_dir: str = "",
) -> None:
    """Fine-tunes, or goes on where it stopped.

    Args:
        dataset, dev, columns, data_dir: as `datasets.load` takes them.
        name: of the fine-tuning; by default the dataset's.

    Raises:
        ConfigError: the questions cannot be read, the name cannot be used, or it was begun with other settings.
    """
    name = name or datasets.folder_name(dataset)
    if name == CONVERTED or not re.fullmatch(r"[^./][^/]*", name):
        raise ConfigError(f"{name!r} cannot be the name of a fine-tuning: pass --name=ANOTHER, without slashes")
    run, config = open_prepared(workdir), dataclasses.replace(workdir.config, finetune=settings)
    files = {"dev": dev, "columns": columns}
    splits = {
        split: datasets.load(dataset, split, data_dir=data_dir, run=run, config=config, **files)
        for split in ("train", "dev")
    }
    if not splits["dev"]:
        raise ConfigError(f"{dataset}: no development questions: pass --dev=FILE.jsonl")
    content = {split: content_hash(found) for split, found in splits.items()}
    files |= {"dev": datasets.from_anywhere(dev), "content": content}
    with only_trainer(workdir.phase(f"{FOLDER}/{name}") / "trainer.lock"):
        finetuning = Finetuning.create(workdir, name, datasets.from_anywhere(dataset), settings, **files)
        train(finetuning, *splits.values())


def first_settings(workdir: Workdir, dataset: str, *, name: str = "", preset: str = "") -> FinetuneConfig:
    """The settings that flags override: those that this fine-tuning was begun with, else the run's, under a preset.

    So a preset that this fine-tuning was not begun with is a difference like any other, which `create` refuses.
    """
    name = name or datasets.folder_name(dataset)
    begun = Finetuning.open(workdir, name).config if Finetuning.exists(workdir, name) else workdir.config
    return dataclasses.replace(begun.finetune, **PRESETS.get(preset, {}))


def train(finetuning: Finetuning, train_questions: list[Question], dev_questions: list[Question]) -> None:
    """Trains, or goes on from the last checkpoint; does nothing once it is done."""
    if finetuning.is_done:
        log.info(f"{finetuning.folder}: is done")
        return
    processes.join()
    config, settings = finetuning.config, finetuning.config.finetune
    asked = trainable(train_questions, settings)
    # Before an index is built in vain.
    fit.refuse_what_is_too_large(config, "finetune", steps=steps_in_all(settings, len(asked)))
    data = open_prepared(finetuning.workdir)
    first = finetuning.first_params()
    store = finetuning.index_store(data, first)
    dev_questions = dev_questions[: settings.dev_questions or None]
    processes.on_first(functools.partial(measure_search, config, data, store, first, asked, finetuning.folder))

    def exact_match(params: dict) -> float:
        answerer = Answerer(config, data, params, finetuning.index_of(data, params, store))
        answered = answerer.answer(dev_questions, num_blocks=settings.inference_blocks, depth=1, name="development")
        return sum(p.is_correct for p in answered) / len(answered)

    moves = settings.train_retriever == "both"
    own = None
    if moves and config.index.device == "inline":
        inline = finetuning.index_builder(store, data)
        own = OwnVersions(inline, finetuning.folder, first["embedder"], finetuning.source)
    task = FinetuneTask(config, data, train_questions, store, first, exact_match, finetuning.folder, own)
    del first
    builder, follow = None, f"--finetuning={finetuning.name}"
    if moves and config.index.device == "cpu" and processes.is_first():
        builder = BuilderProcess(finetuning.workdir, follow)
    elif moves and config.index.device == "accelerator" and processes.is_first():
        where = f"--workdir={quoted(finetuning.workdir.path)}"
        log.info(f"on the builder's machine: realm builder {where} {follow}")
    try:
        loop.run(task, finetuning.folder)
        processes.on_first(lambda: finetuning.workdir.mark_done(finetuning.phase, task.steps))
        if builder:
            builder.finish()
    finally:
        if builder:
            builder.stop()
