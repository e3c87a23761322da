"""The stages of a run from Python: what the commands do, as functions.

Like the commands they show their log and how far they are on stdout; a program that has given the logger `realm_jax` a
handler of its own gets the log there instead.
"""

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Sequence

from realm_jax import console, parallel, paths
from realm_jax.api.evaluated import Evaluation
from realm_jax.api.opened_run import Run
from realm_jax.config import Config, ConfigError
from realm_jax.data.questions import datasets
from realm_jax.eval import evaluation
from realm_jax.eval.request import Request
from realm_jax.run import run
from realm_jax.training import finetune as finetune_lib
from realm_jax.training.finetuning import how_to_finetune
from realm_jax.training.presets import PRESETS
from realm_jax.workdir import Workdir


@contextlib.contextmanager
def _shown() -> Iterator[None]:
    """Prepares the process as a command does: compiled programs are kept on disk, the log and progress are shown."""
    parallel.set_up_compilation_cache()
    if not console.LOGGER.handlers:
        console.set_up()
    try:
        yield
    finally:
        console.close()


@_shown()
def pretrain(config: Config, workdir: str | os.PathLike) -> Run:
    """Makes a whole run: corpus, ICT, index, REALM beside the index builder, report. It returns when all is done.

    The same call goes on where an interrupted one stopped, and does nothing if the run is finished.

    Raises:
        ConfigError: a bad setting or source, or the workdir was made with other settings.
    """
    made = Workdir.create(paths.expand(os.fspath(workdir)), config)
    run(made)
    return Run(made)


@_shown()
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
        workdir: folder of a pre-trained run.
        dataset: nq, wq, ct, trivia, squad_open, a file of questions, or cloze: blanks in the run's own sentences.
        name: under which this fine-tuning is kept; by default the dataset's name.
        dev: a file of development questions; by default a tenth of the dataset.
        columns: names of a file's fields where they are not the usual ones: `question=COLUMN,answers=COLUMN`.
        data_dir: folder with local copies of a named dataset.
        preset: published settings, `orqa` or `realmpp`.
        settings: fields of `FinetuneConfig`, such as `epochs=2`.

    Returns:
        the run, which answers with this fine-tuning.

    Raises:
        ConfigError: a setting, preset or file cannot be used, or this fine-tuning was begun with other settings.
    """
    made, dataset = Workdir.open(paths.expand(os.fspath(workdir))), os.fspath(dataset)
    if preset and preset not in PRESETS:
        raise ConfigError(f"no preset {preset!r}: use {' or '.join(PRESETS)}, or none")
    first = finetune_lib.first_settings(made, dataset, name=name, preset=preset)
    unknown = sorted(set(settings) - {field.name for field in dataclasses.fields(first)})
    if unknown:
        raise ConfigError(f"{unknown[0]} is no setting of fine-tuning: see FinetuneConfig for those that are")
    files = {"dev": dev, "columns": columns, "data_dir": data_dir}
    finetune_lib.finetune(made, dataset, dataclasses.replace(first, **settings), name=name, **files)
    return Run(made, finetuning=name or datasets.folder_name(dataset))


@_shown()
def evaluate(
    workdir: str | os.PathLike,
    dataset: str | os.PathLike = "",
    *,
    baselines: Sequence[str] = (),
    finetuning: str = "",
    split: str = "test",
    columns: str = "",
    data_dir: str = "",
    blocks: int | Sequence[int] = (),
    questions: int = 0,
) -> Evaluation:
    """Scores a fine-tuned run on questions, beside baselines, and writes the report into `workdir/eval/`.

    Args:
        dataset: as in `finetune`; by default what the run was fine-tuned on last.
        baselines: any of bm25, random, ict, pretrained, frequent and closed_book.
        finetuning: name of the fine-tuning that answers; by default the dataset's, else the newest.
        split: train, dev or test of a named dataset.
        columns, data_dir: as in `finetune`.
        blocks: how many the reader sees for each question (`finetune.inference_blocks` by default); of several numbers
            the report has the exact match by each.
        questions: how many are asked, from the first on; 0 means all.

    Raises:
        ConfigError: the run is not fine-tuned (the message has the command), or the questions cannot be read.
    """
    made = Workdir.open(paths.expand(os.fspath(workdir)))
    asked = {"dataset": os.fspath(dataset), "split": split, "columns": columns, "data_dir": data_dir}
    counts = {"blocks": (blocks,) if isinstance(blocks, int) else tuple(blocks), "questions": questions}
    request = Request(**asked, **counts, finetuning=finetuning, baselines=tuple(baselines))
    evaluation.check(request)
    about = evaluation.ask(request, made)
    chosen = evaluation.finetuning_for(made, request, about.dataset)
    if not chosen:
        raise ConfigError(f"{made.path} is not fine-tuned yet: {how_to_finetune(made, about.dataset)}")
    answers = evaluation.answer(made, chosen, request, about)
    return Evaluation(answers.folder, answers.results)
