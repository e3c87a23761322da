"""One evaluation of a run: which questions it is asked, by which fine-tuning, and what is written into W/eval/."""

import logging
import time

from etils import epath

from realm_jax.config import CONVERTED, ConfigError
from realm_jax.data.prepare import RunData, open_prepared
from realm_jax.data.questions import datasets
from realm_jax.eval import qa_report, question_answering, ranking_files, zero_shot
from realm_jax.eval.block_sample import BlockSample
from realm_jax.eval.overlap import by_overlap
from realm_jax.eval.predictions import score_file, write_predictions
from realm_jax.eval.question_answering import BASELINES, FINE_TUNED
from realm_jax.eval.report_folder import HELDOUT, report_folder
from realm_jax.eval.request import Answers, Asked, Recall, Request
from realm_jax.records import Question
from realm_jax.training import finetune_search
from realm_jax.training.finetuning import Finetuning, finetunings
from realm_jax.workdir import Workdir, write_json, write_text

log = logging.getLogger(__name__)

WITHOUT_INDEX = "retrievers without an index version"


def check(request: Request) -> None:
    """Raises ConfigError for a bad value, before anything is computed."""
    unknown = sorted(set(baselines_of(request)) - set(BASELINES))
    if unknown:
        raise ConfigError(f"--baseline={','.join(unknown)} is unknown: use {', '.join(BASELINES)} or all")
    unknown = sorted(set(request.states) - set(zero_shot.STATES))
    if unknown:
        raise ConfigError(f"--states={','.join(unknown)} is unknown: use {', '.join(zero_shot.STATES)}")
    files = [file for file in request.files.values() if file]
    if len(set(files)) < len(files):
        raise ConfigError(f"two outputs would be written to {files[0]}: pass a file for each")
    for file in files:
        ranking_files.check(file, request.dataset)
    if request.questions < 0:
        raise ConfigError(f"--questions={request.questions} is below 0: pass a number of 1 or more, or 0 for all")
    if any(count < 1 for count in request.blocks):
        raise ConfigError(f"--blocks={','.join(map(str, request.blocks))}: a reader sees at least 1 block")


def baselines_of(request: Request) -> list[str]:
    """Names of the baselines that the request asks for."""
    return list(BASELINES if request.baselines == ("all",) else request.baselines)


def ask(request: Request, workdir: Workdir | None) -> Asked:
    """Loads the questions. Only `cloze`, and a request that names no dataset, need a run.

    Raises:
        ConfigError: they cannot be read, they are several sets, or no dataset is named for a run that was fine-tuned on
            a file or several sets.
    """
    dataset = request.dataset or _dataset_of(workdir)
    if len(datasets.sets_of(dataset)) > 1:
        raise ConfigError(f"--dataset={dataset}: is several sets, and each has scores of its own: pass one of them")
    of_run = {"run": open_prepared(workdir), "config": workdir.config} if workdir else {}
    whole = datasets.load(dataset, request.split, data_dir=request.data_dir, columns=request.columns, **of_run)
    return Asked(dataset, whole, whole[: request.questions or None])


def _dataset_of(workdir: Workdir) -> str:
    """The dataset of the newest fine-tuning; `cloze` if there is none."""
    known = finetunings(workdir)
    dataset = Finetuning.open(workdir, known[-1]).dataset if known else "cloze"
    if dataset not in datasets.NAMES and len(datasets.sets_of(dataset)) == 1:
        raise ConfigError(f"{workdir.path} was fine-tuned on the file {dataset}: pass --dataset=TEST.jsonl")
    return dataset


def finetuning_for(workdir: Workdir, request: Request, dataset: str) -> str:
    """Name of the fine-tuning that answers; empty if there is none."""
    known = finetunings(workdir)
    own = datasets.folder_name(dataset)
    return request.finetuning or next((name for name in (own, *known[-1:]) if name in known), "")


def heldout_recall(workdir: Workdir, request: Request) -> Recall:
    """Zero-shot retrieval of held-out sentences by the states of the run."""
    table, sample = zero_shot.heldout_recall(workdir, request.states)
    return _written(workdir.path / "eval" / HELDOUT, {"dataset": "held-out sentences"}, table, sample)


def question_recall(workdir: Workdir, request: Request, asked: Asked) -> Recall:
    """Zero-shot retrieval of the questions by the states of the run; writes the rankings that the request names."""
    found = zero_shot.question_recall(workdir, asked.questions, request.states, or_rank=any(request.files.values()))
    recall = Recall(found.over, {}, None)
    if found.table:
        folder = report_folder(workdir.path / "eval", asked.dataset, request.split, asked.whole)
        recall = _written(folder, {"dataset": asked.dataset, "over": found.over}, found.table, found.sample)
    ranking_files.write(found.ranking, open_prepared(workdir), request.files)
    return recall


def _written(folder: epath.Path, facts: dict, table: dict, sample: BlockSample | None) -> Recall:
    file = folder / "recall.json"
    searched = {} if sample is None else {"sample": sample.facts()}
    write_json(file, {**facts, **searched, "recall": zero_shot.as_json(table)})
    return Recall(facts.get("over", ""), table, file, "" if sample is None else str(sample))


def answer(workdir: Workdir, name: str, request: Request, asked: Asked) -> Answers:
    """Answers with the fine-tuning `name` and with baselines; writes the report and the rankings that are asked for.

    Raises:
        ConfigError: a baseline that is named cannot be made of this run; `all` leaves it out.
    """
    started, questions, baselines = time.monotonic(), asked.questions, baselines_of(request)
    data, finetuning = open_prepared(workdir), Finetuning.open(workdir, name)
    train = _trained_on(finetuning, data, request)
    for baseline, reason in question_answering.impossible(finetuning, train).items():
        if baseline in request.baselines:
            raise ConfigError(f"--baseline={baseline}: {reason}: drop it")
        if baseline in baselines:  # of all
            log.info(f"notice: --baseline=all leaves out {baseline}: {reason}")
            baselines.remove(baseline)
    num_blocks, counts = finetuning.config.finetune.inference_blocks, request.blocks
    if len(counts) == 1:
        num_blocks, counts = counts[0], ()
    systems, by_blocks, ranks, ranking, sample = question_answering.evaluate(
        finetuning, data, questions, baselines, num_blocks, train, counts
    )
    facts = {
        "dataset": asked.dataset,
        "split": request.split if asked.dataset in datasets.NAMES else "",
        "questions": len(questions),
        "corpus": data.knowledge.manifest["description"]["source"],
        "blocks": int(data.knowledge.live.sum()),
        "read_blocks": num_blocks,
        "workdir": str(workdir.path),
        "finetuning": name,
        "seconds": round(time.monotonic() - started, 1),
    }
    said = {"search": finetune_search.said(finetuning.folder), WITHOUT_INDEX: f"search {sample}" if sample else ""}
    facts |= {name: value for name, value in said.items() if value}
    folder = report_folder(workdir.path / "eval", asked.dataset, request.split, asked.whole, name)
    tables = {name: question_answering.recall_table(of) for name, of in ranks.items()}
    overlap = by_overlap(questions, train) if train else None
    results = qa_report.results(systems, tables, facts, overlap=overlap, by_blocks=by_blocks)
    markdown = qa_report.markdown(results)
    write_predictions(folder / "predictions.jsonl", systems[FINE_TUNED], data.knowledge)
    write_json(folder / "results.json", results)
    write_json(folder / "answer_ranks.json", ranks)
    write_text(folder / "report.md", markdown)
    write_text(folder / "report.html", qa_report.html(results, systems[FINE_TUNED], data.knowledge))
    ranking_files.write(ranking, data, request.files, systems[FINE_TUNED])
    return Answers(results, markdown, folder)


def _trained_on(finetuning: Finetuning, data: RunData, request: Request) -> list[Question]:
    """The training questions; without them there is no baseline `frequent`, and overlap with training is not known."""
    needed = "frequent" in request.baselines
    if finetuning.name == CONVERTED and not needed:
        return []
    try:
        return finetuning.train_questions(data, request.data_dir)
    except ConfigError as error:
        if needed:
            raise ConfigError(f"{error}, or drop --baseline=frequent") from error
        log.info(f"notice: what overlaps with training is not known: {error}")
        return []


def score_other(predictions: str, request: Request, asked: Asked) -> str:
    """The report, in Markdown, of the answers that another system wrote to a file."""
    facts = {
        "dataset": asked.dataset,
        "split": request.split,
        "questions": len(asked.questions),
        "corpus": "that the system used",
    }
    return qa_report.markdown(qa_report.results({predictions: score_file(predictions, asked.questions)}, {}, facts))
