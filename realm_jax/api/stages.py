"""The stages of a run from Python: what the commands do, as functions."""

import dataclasses
import os
from collections.abc import Iterator, Sequence

from realm_jax import experiments_file, parallel, paths
from realm_jax.api.evaluated import Evaluation
from realm_jax.api.opened_run import Run
from realm_jax.config import Config, ConfigError
from realm_jax.data.questions import datasets
from realm_jax.data.sources import sources
from realm_jax.eval import evaluation
from realm_jax.eval.request import Request
from realm_jax.records import Record
from realm_jax.run import run
from realm_jax.training import finetune as finetune_lib
from realm_jax.training.finetuning import how_to_finetune
from realm_jax.workdir import Workdir


def experiment(name: str) -> Config:
    """The settings of an experiment, to be changed with `dataclasses.replace`.

    Args:
        name: of one that came with the package, such as `nano`, or an experiment file.

    Raises:
        ConfigError: there is no such experiment.
    """
    return experiments_file.load_experiment(name)


def texts(source: str | os.PathLike, columns: str = "") -> Iterator[Record]:
    """The texts of a source, as a run with `corpus.knowledge=source` takes them, before they are cut into blocks.

    Args:
        source: a folder of .txt and .md files, a file of records of any form in docs/formats.md, or `asset:NAME`.
        columns: where a file names its fields otherwise, as `corpus.columns`.

    Raises:
        ConfigError: there is no such source, or it cannot be read.
    """
    return sources.read(os.fspath(source), columns).records()


def pretrain(config: Config, workdir: str | os.PathLike) -> Run:
    """Makes a whole run: corpus, ICT, index, REALM beside the index builder, report. Takes as long as that takes.

    The same call goes on where an interrupted one stopped, and does nothing where the run is finished.

    Raises:
        ConfigError: a bad setting or source, or the workdir was made with other settings.
    """
    parallel.set_up_compilation_cache()
    made = Workdir.create(paths.expand(os.fspath(workdir)), config)
    run(made)
    return Run(made)


def finetune(
    workdir: str | os.PathLike,
    dataset: str | os.PathLike = "cloze",
    *,
    name: str = "",
    dev: str = "",
    columns: str = "",
    data_dir: str = "",
    preset: str = "",
    **settings: object,
) -> Run:
    """Fine-tunes query tower and reader on questions, and keeps the weights with the best exact match.

    The same call goes on where an interrupted one stopped.

    Args:
        workdir: of a run that is pre-trained.
        dataset: nq, wq, ct, trivia, squad_open, a file of questions, or cloze: blanks in the run's own sentences.
        name: of this fine-tuning; by default the dataset's.
        dev: a file of development questions; by default a tenth of the dataset.
        columns: where files name their fields otherwise: `question=COLUMN,answers=COLUMN`.
        data_dir: folder with local copies of a named dataset.
        preset: published settings, `orqa` or `realmpp`.
        settings: fields of `FinetuneConfig`, such as `epochs=2`.

    Returns:
        the run, which answers with this fine-tuning.

    Raises:
        ConfigError: the questions cannot be read, or this fine-tuning was begun with other settings.
    """
    parallel.set_up_compilation_cache()
    made, dataset = Workdir.open(paths.expand(os.fspath(workdir))), os.fspath(dataset)
    first = finetune_lib.first_settings(made, dataset, name=name, preset=preset)
    unknown = sorted(set(settings) - {field.name for field in dataclasses.fields(first)})
    if unknown:
        raise ConfigError(f"{unknown[0]} is no setting of fine-tuning: see FinetuneConfig for those that are")
    files = {"dev": dev, "columns": columns, "data_dir": data_dir}
    finetune_lib.finetune(made, dataset, dataclasses.replace(first, **settings), name=name, **files)
    return Run(made, finetuning=name or datasets.folder_name(dataset))


def evaluate(
    workdir: str | os.PathLike,
    dataset: str | os.PathLike = "",
    *,
    baselines: Sequence[str] = (),
    finetuning: str = "",
    split: str = "test",
    columns: str = "",
    data_dir: str = "",
    blocks: int = 0,
    questions: int = 0,
) -> Evaluation:
    """Scores a fine-tuned run on questions, beside baselines, and writes the report into `workdir/eval/`.

    Args:
        dataset: as in `finetune`; by default what the run was fine-tuned on last.
        baselines: of bm25, random, ict, pretrained, frequent, closed_book.
        finetuning: name of the one that answers; by default the dataset's, else the newest.
        split: train, dev or test of a named dataset.
        columns, data_dir: as in `finetune`.
        blocks: that the reader sees; 0 means `finetune.inference_blocks`.
        questions: first ones that are asked; 0 means all.

    Raises:
        ConfigError: the run is not fine-tuned (the message has the command), or the questions cannot be read.
    """
    parallel.set_up_compilation_cache()
    made = Workdir.open(paths.expand(os.fspath(workdir)))
    asked = {"dataset": os.fspath(dataset), "split": split, "columns": columns, "data_dir": data_dir}
    counts = {"blocks": blocks, "questions": questions}
    request = Request(**asked, **counts, finetuning=finetuning, baselines=tuple(baselines))
    evaluation.check(request)
    about = evaluation.ask(request, made)
    chosen = evaluation.finetuning_for(made, request, about.dataset)
    if not chosen:
        raise ConfigError(f"{made.path} is not fine-tuned yet: {how_to_finetune(made, about.dataset)}")
    answers = evaluation.answer(made, chosen, request, about)
    return Evaluation(answers.folder, answers.results)
