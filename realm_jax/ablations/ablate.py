"""Runs the arms of an ablation, seed by seed.

Each part of an arm is one of our commands in a process of its own, so an arm that was stopped goes on where it was.
A finished arm is a file OUT/results/ARM-SEED.json and is not run again. Arms of a seed share what they have in common:
corpus, ICT, and the whole pre-training where only the fine-tuning differs.
"""

import dataclasses
import logging
import os
import pathlib
import shutil
import subprocess
import sys
import time

from realm_jax.ablations.arms import Arm
from realm_jax.config import Config, RunError
from realm_jax.experiments_file import load_experiment
from realm_jax.index.history import History
from realm_jax.workdir import Workdir, read_json, read_json_lines, with_absolute_paths, write_json

log = logging.getLogger(__name__)

RESULTS = "results"
ZERO_SHOT = "before fine-tuning"  # as `realm eval` names it


@dataclasses.dataclass(frozen=True)
class Data:
    """What all arms learn from, what they are asked, and where they are kept."""

    dataset: str = "cloze"
    """Training questions, named as for `datasets.load`."""
    test: str = ""
    """Questions that the table reports on; by default the dataset's test split."""
    data_dir: str = ""
    """Folder with local copies of a named dataset."""
    corpus: str = ""
    """Knowledge corpus instead of the experiment's."""
    text: str = ""
    """Text of the arms that pre-train on another than the knowledge corpus, instead of the experiment's."""
    out: str = "runs/ablations"
    """Folder of all runs, and of the results."""


def run_arm(arms: dict[str, Arm], name: str, seed: int, data: Data) -> None:
    """Trains and evaluates one arm; does nothing if it has a result already.

    Raises:
        RunError: a command of the arm failed.
    """
    result_file = result_of(data.out, name, seed)
    if result_file.exists():
        return
    arm, started = arms[name], time.monotonic()
    workdir = _workdir(arms, name, seed, data)
    where = f"--workdir={workdir.path}"
    if not workdir.is_done("pretrain"):
        _run("ict", where)
        _run("pretrain", where)
    trained_as = arm.reader_of or name
    questions = [f"--dataset={data.dataset}", f"--data_dir={data.data_dir}"]
    if not workdir.is_done(f"finetune/{trained_as}"):
        settings = arms[trained_as].finetune
        changed = [
            f"--finetune.{key}={value}"
            for key, value in dataclasses.asdict(settings).items()
            if value != getattr(workdir.config.finetune, key)
        ]
        _run("finetune", where, f"--name={trained_as}", *questions, *changed)
    test = [f"--dataset={data.test or data.dataset}", f"--data_dir={data.data_dir}"]
    _run("eval", where, f"--finetuning={trained_as}", f"--blocks={arm.finetune.inference_blocks}", *test)
    folder = max(workdir.path.glob("eval/*/results.json"), key=lambda file: file.stat().mtime).parent
    answered, _ = read_json_lines(folder / "predictions.jsonl")
    ranks = read_json(folder / "answer_ranks.json")[ZERO_SHOT]
    ages = index_ages(History(workdir.index_folder).history(), workdir.config.pretrain.steps)
    result = {
        "arm": name,
        "label": arm.label,
        "seed": seed,
        "values": {
            "exact_match": [int(line["is_correct"]) for line in answered],
            **{f"recall@{k}": [int(0 <= rank < k) for rank in ranks] for k in (1, 5)},
        },
        "index_age_steps": {"mean": sum(ages) / len(ages), "most": max(ages)},
        "seconds": round(time.monotonic() - started),
        "pretrain": dataclasses.asdict(workdir.config.pretrain),
        "finetune": dataclasses.asdict(arm.finetune),
    }
    write_json(result_file, result)


def index_ages(history: list[dict], steps: int) -> list[int]:
    """The age, in steps, of the index that each training step used, from an index's history of events."""
    adopted = [(event["trainer_step"], event["step"]) for event in history if event["event"] == "adopted"]
    return [step - next(made for at, made in reversed(adopted) if at <= step) for step in range(1, steps + 1)]


def _workdir(arms: dict[str, Arm], name: str, seed: int, data: Data) -> Workdir:
    """The run of the first arm with the same pre-training; a new one begins with what other runs of the seed share."""
    first = next(other for other, arm in arms.items() if arm.config == arms[name].config)
    config = _config(arms[first].config, seed, data)
    folder = pathlib.Path(data.out) / f"seed-{seed}"
    path = folder / first
    if not (path / "config.json").exists():
        for lender in sorted(folder.glob("*/config.json")) if folder.exists() else []:
            parts = _lent(config, Workdir.open(lender.parent))
            if parts:
                shutil.rmtree(path, ignore_errors=True)  # a copy that was broken off
                path.mkdir(parents=True)
                for part in parts:
                    shutil.copytree(lender.parent / part, path / part, copy_function=os.link)
                shutil.copy(lender.parent / "tokenizer.json", path)
                write_json(path / "config.json", dataclasses.asdict(config))
                break
    return Workdir.create(path, config)


def _lent(config: Config, lender: Workdir) -> list[str]:
    """Folders of another run that this run would make exactly alike."""
    theirs = lender.config
    same = [getattr(config, key) == getattr(theirs, key) for key in ("init", "model", "seed")]
    if not all(same) or config.corpus.knowledge != theirs.corpus.knowledge or not lender.is_done("ict"):
        return []
    if config.corpus != theirs.corpus:  # another text to pre-train on
        return ["corpus"]
    parts = ["corpus", *(["pretrain_text"] if lender.text_folder != lender.knowledge_folder else [])]
    if config.ict == theirs.ict:
        parts.append("ict")
    return parts


def _config(config: Config, seed: int, data: Data) -> Config:
    corpus = dataclasses.replace(config.corpus, knowledge=data.corpus or config.corpus.knowledge)
    if corpus.pretrain_text and data.text:
        corpus = dataclasses.replace(corpus, pretrain_text=data.text)
    return with_absolute_paths(dataclasses.replace(config, seed=seed, corpus=corpus).check())


def _run(command: str, *options: str) -> None:
    given = [option for option in options if not option.endswith("=")]
    log.info("$ " + " ".join(["realm", command, *given]))
    status = subprocess.run([sys.executable, "-m", "realm_jax", command, *given], check=False).returncode
    if status:
        raise RunError(f"realm {command} ended with status {status}: mend what it says and run the same command again")


def result_of(out: str, arm: str, seed: int) -> pathlib.Path:
    """Where the result of an arm and a seed is kept."""
    return pathlib.Path(out) / RESULTS / f"{arm}-{seed}.json"


def load_arms(path: str) -> dict[str, Arm]:
    """What `get_arms()` of an experiment file returns. Raises ConfigError if there is no such file."""
    return load_experiment(path, "get_arms", "--experiment")
