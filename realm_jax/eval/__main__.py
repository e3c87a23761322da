"""Scores a run on questions: zero_shot, and answers once it is fine-tuned; or the answers of any other system.

python -m realm_jax.eval --dataset=wq                                    (the newest run)
python -m realm_jax.eval --dataset=wq --baseline=bm25,random             (beside baselines; or --baseline=all)
python -m realm_jax.eval --dataset=QUESTIONS.jsonl --only=recall         (retrieval of every state of the run)
python -m realm_jax.eval --only=recall                                   (held-out sentences, no questions)
python -m realm_jax.eval --dataset=wq --run_file=FILE.trec               (what was found, for trec_eval)
python -m realm_jax.eval --dataset=wq --predictions=FILE.jsonl           (lines of {question, prediction})
"""

import dataclasses
import time
from typing import TYPE_CHECKING, Literal

import tyro

from realm_jax import cli
from realm_jax.config import ConfigError
from realm_jax.workdir import Workdir, write_json, write_text

if TYPE_CHECKING:
    from etils import epath

    from realm_jax.records import Question


@dataclasses.dataclass(frozen=True)
class _Flags:
    workdir: cli.PathFlag = ""
    """Folder of the run (default: the newest under runs/)."""
    dataset: cli.PathFlag = ""
    """nq, wq, ct, trivia, squad_open, cloze (the run's own held-out sentences with a blank), or a file of questions, of
    any form in docs/formats.md; default: what the run was fine-tuned on last, else cloze."""
    columns: str = ""
    """Where a file names its fields otherwise: question=COLUMN,answers=COLUMN, or answer_regex=, id=, gold_passage=."""
    split: Literal["train", "dev", "test"] = "test"
    """Part of a named dataset; a file counts as a whole under `test`."""
    data_dir: cli.PathFlag = ""
    """Folder with local copies of a named dataset; default: TensorFlow Datasets' own."""
    only: Literal["", "recall"] = ""
    """`recall`: zero-shot retrieval of every state of the run, and of BM25, and no answers."""
    finetuning: str = ""
    """Name of the fine-tuning (default: the dataset's, else the newest)."""
    baseline: str = ""
    """Floors and baselines, with commas between, or `all`: bm25, random, ict, pretrained, frequent, closed_book."""
    blocks: int = 0
    """Blocks that the reader sees (default: finetune.inference_blocks)."""
    questions: int = 0
    """First questions that are asked; 0 means all."""
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
    from realm_jax.eval import ranking_files

    files = [file for file in _files(flags).values() if file]
    if files and (flags.predictions or (flags.only == "recall" and not flags.dataset)):
        raise ConfigError(f"{files[0]} needs a run that looks for the passages of --dataset=FILE: pass that")
    if len(set(files)) < len(files):
        raise ConfigError(f"two outputs would be written to {files[0]}: pass a file for each")
    for file in files:
        ranking_files.check(file, flags.dataset)
    for name, count in (("questions", flags.questions), ("blocks", flags.blocks)):
        if count < 0:
            raise ConfigError(f"--{name}={count} is below 0: pass a number of 1 or more, or 0 for the default")
    if flags.predictions:
        _score_file(flags)
        return
    _baselines(flags)
    from realm_jax import processes

    processes.join()  # devices that several processes share start for all or none; one is enough to evaluate
    processes.on_first(lambda: _score(flags))


def _files(flags: _Flags) -> dict[str, str]:
    """Where rankings are written, by form; empty where they are not."""
    return {"trec": flags.run_file, "dpr": flags.ctxs_file, "kilt": flags.kilt_file}


def _score(flags: _Flags) -> None:
    workdir = cli.existing(flags.workdir)
    from realm_jax import parallel
    from realm_jax.eval import zero_shot
    from realm_jax.eval.report_folder import HELDOUT

    parallel.set_up_compilation_cache()
    if flags.only == "recall" and not flags.dataset:
        table = zero_shot.heldout_recall(workdir)
        _write_recall(workdir.path / "eval" / HELDOUT, {"dataset": "held-out sentences"}, table)
        return
    from realm_jax.data import datasets
    from realm_jax.training.finetuning import finetunings, how_to_finetune

    known = finetunings(workdir)
    asked = _asked(flags, flags.dataset or _dataset_of(workdir, known), workdir)
    own = datasets.folder_name(asked.dataset)
    chosen = flags.finetuning or next((name for name in (own, *known[-1:]) if name in known), "")
    if flags.only == "recall" or not chosen:
        _retrieve(flags, workdir, asked)
    if flags.only != "recall" and not chosen:
        print(f"not fine-tuned yet: {how_to_finetune(workdir, asked.dataset)}", flush=True)
    elif chosen and flags.only != "recall":
        if chosen != asked.dataset:
            print(f"fine-tuning: {chosen} (--finetuning chooses another)", flush=True)
        _answer(flags, workdir, chosen, asked)


def _baselines(flags: _Flags) -> list[str]:
    """Names of the chosen baselines. Raises ConfigError for one that there is not."""
    from realm_jax.eval.question_answering import BASELINES

    chosen = list(BASELINES) if flags.baseline == "all" else [name for name in flags.baseline.split(",") if name]
    unknown = sorted(set(chosen) - set(BASELINES))
    if unknown:
        raise ConfigError(f"--baseline={','.join(unknown)} is unknown: use {', '.join(BASELINES)} or all")
    return chosen


@dataclasses.dataclass(frozen=True)
class _Asked:
    dataset: str
    whole: "list[Question]"
    """All questions of the set, by whose content its reports are known."""
    questions: "list[Question]"
    """Those that are asked."""


def _asked(flags: _Flags, dataset: str, workdir: Workdir | None) -> _Asked:
    """The questions of the flags; only `cloze` needs a run."""
    from realm_jax.data import datasets
    from realm_jax.data.prepare import open_prepared
    from realm_jax.scores.answers import without_normal_form

    of_run = {"run": open_prepared(workdir), "config": workdir.config} if workdir else {}
    whole = datasets.load(dataset, flags.split, data_dir=flags.data_dir, columns=flags.columns, **of_run)
    questions = whole[: flags.questions or None]
    if odd := without_normal_form(questions):
        print(
            f"{dataset}: {odd} questions have an answer of articles and punctuation alone: any such is right",
            flush=True,
        )
    return _Asked(dataset, whole, questions)


def _dataset_of(workdir: Workdir, known: list[str]) -> str:
    """The dataset of the newest fine-tuning; `cloze` if there is none. A file's training part is no test."""
    from realm_jax.data import datasets
    from realm_jax.training.finetuning import Finetuning

    dataset = Finetuning.open(workdir, known[-1]).dataset if known else "cloze"
    if dataset not in datasets.NAMES:
        raise ConfigError(f"{workdir.path} was fine-tuned on the file {dataset}: pass --dataset=TEST.jsonl")
    return dataset


def _answer(flags: _Flags, workdir: Workdir, name: str, asked: _Asked) -> None:
    from realm_jax.data import datasets
    from realm_jax.data.prepare import open_prepared
    from realm_jax.eval import qa_report, question_answering, ranking_files
    from realm_jax.eval.predictions import write_predictions
    from realm_jax.eval.report_folder import report_folder
    from realm_jax.training.finetuning import Finetuning

    baselines, started, dataset, questions = _baselines(flags), time.monotonic(), asked.dataset, asked.questions
    data, finetuning = open_prepared(workdir), Finetuning.open(workdir, name)
    train = finetuning.train_questions(data, flags.data_dir) if "frequent" in baselines else []
    num_blocks = flags.blocks or finetuning.config.finetune.inference_blocks
    systems, ranks, ranking = question_answering.evaluate(finetuning, data, questions, baselines, num_blocks, train)
    facts = {
        "dataset": dataset,
        "split": flags.split if dataset in datasets.NAMES else "",
        "questions": len(questions),
        "corpus": data.knowledge.manifest["description"]["source"],
        "blocks": int(data.knowledge.live.sum()),
        "read_blocks": num_blocks,
        "workdir": str(workdir.path),
        "finetuning": name,
        "seconds": round(time.monotonic() - started, 1),
    }
    folder = report_folder(workdir.path / "eval", dataset, flags.split, asked.whole, name)
    results = qa_report.results(
        systems, {name: question_answering.recall_table(of) for name, of in ranks.items()}, facts
    )
    write_predictions(folder / "predictions.jsonl", systems[question_answering.FINE_TUNED], data.knowledge)
    write_json(folder / "results.json", results)
    write_json(folder / "answer_ranks.json", ranks)
    write_text(folder / "report.md", qa_report.markdown(results))
    write_text(folder / "report.html", qa_report.html(results, systems[question_answering.FINE_TUNED], data.knowledge))
    ranking_files.write(ranking, data, _files(flags), systems[question_answering.FINE_TUNED])
    print(qa_report.markdown(results))
    print(f"written: {folder}/report.html, report.md, results.json, predictions.jsonl")
    more = f"realm_jax.eval --workdir={workdir.path} --dataset={dataset} --baseline=all"
    print(f"next: python -m {f'realm_jax.serve --workdir={workdir.path}' if baselines else more}", flush=True)


def _retrieve(flags: _Flags, workdir: Workdir, asked: _Asked) -> None:
    from realm_jax.data.prepare import open_prepared
    from realm_jax.eval import ranking_files, zero_shot
    from realm_jax.eval.report_folder import report_folder

    found = zero_shot.question_recall(workdir, asked.questions, or_rank=any(_files(flags).values()))
    print(found.over, flush=True)
    if found.table:
        folder = report_folder(workdir.path / "eval", asked.dataset, flags.split, asked.whole)
        _write_recall(folder, {"dataset": asked.dataset, "over": found.over}, found.table)
    ranking_files.write(found.ranking, open_prepared(workdir), _files(flags))


def _write_recall(folder: "epath.Path", facts: dict, table: dict) -> None:
    from realm_jax.eval import zero_shot

    write_json(folder / "recall.json", {**facts, "recall": zero_shot.as_json(table)})
    print(zero_shot.show(table))
    print(f"written: {folder / 'recall.json'}", flush=True)


def _score_file(flags: _Flags) -> None:
    """Another system's answers; needs a run only for the questions of `cloze`."""
    from realm_jax.eval import qa_report
    from realm_jax.eval.predictions import score_file

    if not flags.dataset:
        raise ConfigError("--predictions needs --dataset: whose questions do they answer?")
    workdir = cli.existing(flags.workdir) if flags.dataset == "cloze" else None
    questions = _asked(flags, flags.dataset, workdir).questions
    facts = {
        "dataset": flags.dataset,
        "split": flags.split,
        "questions": len(questions),
        "corpus": "that the system used",
    }
    print(
        qa_report.markdown(qa_report.results({flags.predictions: score_file(flags.predictions, questions)}, {}, facts))
    )


def command() -> None:
    """Console script."""
    cli.run(main)


if __name__ == "__main__":
    command()
