"""Scores a run on questions: its retrieval, and its answers once it is fine-tuned; or another system's answers.

realm eval --dataset=wq                                    (the newest run)
realm eval --dataset=wq --baseline=bm25,random             (beside baselines; or --baseline=all)
realm eval --dataset=wq --blocks=1,5,20,100                (exact match by blocks read)
realm eval --dataset=QUESTIONS.jsonl --only=recall         (retrieval of every state of the run)
realm eval --only=recall                                   (held-out sentences, no questions)
realm eval --dataset=wq --run_file=FILE.trec               (what was found, for trec_eval)
realm eval --dataset=wq --predictions=FILE.jsonl           (lines of {question, prediction})
python -m realm_jax.eval --dataset=wq                      (the same command)
"""

import dataclasses
import re
from typing import Literal

import tyro

from realm_jax.commands import cli
from realm_jax.config import ConfigError
from realm_jax.eval.request import Asked, Recall, Request


@dataclasses.dataclass(frozen=True)
class _Flags:
    workdir: cli.PathFlag = ""
    """Folder of the run (default: the newest under runs/)."""
    dataset: cli.PathFlag = ""
    """nq, wq, ct, trivia, squad_open, cloze (the run's own held-out sentences with a blank), or a file of questions, of
    any form in docs/formats.md; default: what the run was fine-tuned on last, else cloze."""
    columns: str = ""
    """Names of a file's fields, if they are others: question=COLUMN,answers=COLUMN, or answer_regex=, id=,
    gold_passage=."""
    split: Literal["train", "dev", "test"] = "test"
    """Part of a named dataset; a file counts as a whole under `test`."""
    data_dir: cli.PathFlag = ""
    """Folder with local copies of a named dataset; default: TensorFlow Datasets' own."""
    only: Literal["", "recall"] = ""
    """`recall`: zero-shot retrieval of every state of the run, and of BM25, and no answers."""
    states: str = ""
    """States whose zero-shot retrieval is measured, separated by commas: first, ict, realm (default: all there are)."""
    finetuning: str = ""
    """Name of the fine-tuning (default: the dataset's, else the newest)."""
    baseline: str = ""
    """Floors and baselines, separated by commas, or `all`: bm25, random, ict, pretrained, frequent, closed_book."""
    blocks: str = ""
    """How many blocks the reader sees (default: finetune.inference_blocks); several, as 1,5,20,100, make a curve."""
    questions: int = 0
    """How many questions are asked, from the first on; 0 means all."""
    predictions: cli.PathFlag = ""
    """Answers of another system to be scored: JSON lines {question, prediction}."""
    run_file: cli.PathFlag = ""
    """Write here what was found for each question, as a TREC run."""
    ctxs_file: cli.PathFlag = ""
    """Write here the same with texts, as DPR's JSON of {question, answers, ctxs}, which FiD and Atlas read."""
    kilt_file: cli.PathFlag = ""
    """Write here KILT's JSON lines of {id, input, output}: the records found, and the answer if there is one."""


def main(argv: list[str] | None = None) -> None:
    """Entry point."""
    flags = tyro.cli(_Flags, description="Score a run on questions.", args=argv)
    request = _request(flags)
    from realm_jax import processes
    from realm_jax.eval import evaluation

    evaluation.check(request)
    if flags.predictions:
        _score_file(flags, request)
        return
    processes.join()  # devices that several processes share start for all or none; one is enough to evaluate
    processes.on_first(lambda: _score(flags, request))


def _request(flags: _Flags) -> Request:
    files = {"trec": flags.run_file, "dpr": flags.ctxs_file, "kilt": flags.kilt_file}
    written = [file for file in files.values() if file]
    if written and (flags.predictions or (flags.only == "recall" and not flags.dataset)):
        raise ConfigError(f"{written[0]} needs a run that looks for the passages of --dataset=FILE: pass that")
    asked = {name: getattr(flags, name) for name in ("dataset", "columns", "split", "data_dir", "finetuning")}
    asked |= {"states": _names(flags.states), "baselines": _names(flags.baseline)}
    if flags.blocks and not re.fullmatch(r"-?\d+(,-?\d+)*", flags.blocks):
        raise ConfigError(f"--blocks={flags.blocks} is no number, nor several with commas: pass 5 or 1,5,20,100")
    return Request(**asked, blocks=tuple(map(int, _names(flags.blocks))), questions=flags.questions, files=files)


def _names(flag: str) -> tuple[str, ...]:
    return tuple(name for name in flag.split(",") if name)


def _score(flags: _Flags, request: Request) -> None:
    workdir = cli.existing(flags.workdir)
    from realm_jax.eval import evaluation
    from realm_jax.training.finetuning import how_to_finetune

    cli.start_jax()
    if flags.only == "recall" and not flags.dataset:
        _show_recall(evaluation.heldout_recall(workdir, request))
        return
    asked = evaluation.ask(request, workdir)
    _warn(asked)
    chosen = evaluation.finetuning_for(workdir, request, asked.dataset)
    if flags.only == "recall" or not chosen:
        _show_recall(evaluation.question_recall(workdir, request, asked))
    if flags.only == "recall":
        return
    if not chosen:
        print(f"not fine-tuned yet: {how_to_finetune(workdir, asked.dataset)}", flush=True)
        return
    if chosen != asked.dataset:
        print(f"fine-tuning: {chosen} (--finetuning chooses another)", flush=True)
    answers = evaluation.answer(workdir, chosen, request, asked)
    print(answers.markdown)
    print(f"written: {answers.folder}/report.html, report.md, results.json, predictions.jsonl")
    more = f"eval --workdir={workdir.path} --dataset={asked.dataset} --baseline=all"
    print(f"next: realm {f'serve --workdir={workdir.path}' if request.baselines else more}", flush=True)


def _score_file(flags: _Flags, request: Request) -> None:
    """Another system's answers; needs a run only for the questions of `cloze`."""
    from realm_jax.eval import evaluation

    if not flags.dataset:
        raise ConfigError("--predictions needs --dataset: whose questions do they answer?")
    workdir = cli.existing(flags.workdir) if flags.dataset == "cloze" else None
    asked = evaluation.ask(request, workdir)
    _warn(asked)
    print(evaluation.score_other(flags.predictions, request, asked))


def _warn(asked: Asked) -> None:
    from realm_jax.scores.answers import without_normal_form

    if odd := without_normal_form(asked.questions):
        print(
            f"{asked.dataset}: {odd} questions have an answer of articles and punctuation alone: any such is right",
            flush=True,
        )


def _show_recall(recall: Recall) -> None:
    from realm_jax.eval import zero_shot

    if recall.over:
        print(recall.over, flush=True)
    if recall.sample:
        print(recall.sample, flush=True)
    if recall.file:
        print(zero_shot.show(recall.table))
        print(f"written: {recall.file}", flush=True)
