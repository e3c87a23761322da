"""Reads everything in a workdir as plain values, also while a run writes to it, or if a part of it is damaged.

What cannot be read is named in `problems` and left out. Nothing here writes, and nothing needs JAX.
"""

import dataclasses
import time
from collections.abc import Callable
from typing import Any

from etils import epath

from realm_jax import config as config_lib
from realm_jax import config_json, heartbeat
from realm_jax.config import ConfigError
from realm_jax.inspect import index, phase_states
from realm_jax.inspect.problems import Problems
from realm_jax.workdir import read_json

OWN_FILES = ("config.json", "tokenizer.json", "corpus", "ict", "pretrain", "index", "init", "finetune")


def look(path: epath.Path) -> dict:
    """Everything about a workdir as plain JSON values; `None` or an empty list where there is nothing yet.

    Returns:
        `workdir`, `time` (of looking), `config` (as written), `corpus`, `phases`, `indexes`, `finetunings`,
        `evaluations`, `processes`, `problems`, and `next` (the command to run).

    Raises:
        ConfigError: the folder holds nothing of a run.
    """
    if not any((path / name).exists() for name in OWN_FILES):
        raise ConfigError(f"{path} is no workdir (no config.json): pass the folder of a run, or make one first")
    problems = Problems()
    file = path / "config.json"
    config = problems.part(file, lambda: _config(read_json(file)), {})
    problems.part(file, lambda: config_json.from_json(config) if config else None, None)  # notes another version's
    found: dict[str, Any] = {"workdir": str(path), "time": time.time(), "config": config}
    found["corpus"] = problems.part(path / "corpus", lambda: _corpus(path / "corpus"), None)
    found["phases"] = phase_states.training_phases(path, config, problems)
    found["finetunings"] = phase_states.finetunings(path, problems)
    found["processes"] = _processes(path, found, problems)
    folders = [
        (path / "index", "pretrain"),
        *((p / "index", f"finetune/{p.name}") for p in phase_states.finetuned(path)),
    ]
    steps = {phase["name"]: phase["step"] for phase in (*found["phases"], *found["finetunings"])}
    found["indexes"] = [
        index.look(folder, phase, steps.get(phase), found["processes"], problems)
        for folder, phase in folders
        if folder.exists()
    ]
    found["evaluations"] = _evaluations(path, problems)
    found["problems"] = problems.found
    found["next"] = _next(found)
    return found


def _config(values: dict) -> dict:
    """The config as it was written. Raises TypeError if a section of it is no table of settings."""
    sections = [f.name for f in dataclasses.fields(config_lib.Config) if dataclasses.is_dataclass(f.type)]
    if not all(isinstance(values.get(section, {}), dict) for section in sections):
        raise TypeError("a section holds no settings")
    return values


def _corpus(folder: epath.Path) -> dict | None:
    if not (folder / "manifest.json").exists():
        return None
    manifest = read_json(folder / "manifest.json")
    segments = manifest["segments"]
    return {
        "source": manifest["description"]["source"],
        "articles": sum(segment["num_sources"] for segment in segments),
        "blocks": sum(segment["num_blocks"] for segment in segments),
        "deleted_blocks": len(manifest["tombstones"]),
        "segments": len(segments),
        "bytes": sum(sum(segment["bytes"].values()) for segment in segments),
    }


def _processes(path: epath.Path, found: dict, problems: Problems) -> list[dict]:
    """Every process that gave a sign of life in the workdir, the trainers first."""
    folders = [path, *(path / phase["name"] for phase in (*found["phases"], *found["finetunings"]))]
    folders += [folder / "index" for folder in (path, *phase_states.finetuned(path))]
    read = {folder: problems.part(folder, lambda folder=folder: heartbeat.read_all(folder), []) for folder in folders}
    kept = ("role", "doing", "state", "host", "pid", "age_s")
    return [
        {"folder": str(folder.relative_to(path)), **{key: sign[key] for key in kept if key in sign}}
        for folder, signs in read.items()
        for sign in signs
    ]


def _evaluations(path: epath.Path, problems: Problems) -> list[dict]:
    """Scores of fine-tunings on question sets, and tables of zero-shot retrieval, the newest last."""
    readers: dict[str, Callable[[epath.Path], dict]] = {"results.json": _answers, "recall.json": _recall}
    found = []
    for name, read in readers.items():
        for file in (path / "eval").glob(f"*/{name}"):
            result = problems.part(file, lambda file=file, read=read: {"time": file.stat().mtime, **read(file)}, None)
            if result:
                report = file.parent / "report.html"
                found.append({"name": file.parent.name, **result, "report": str(report) if report.exists() else None})
    return sorted(found, key=lambda result: result["time"])


def _answers(file: epath.Path) -> dict:
    results = read_json(file)
    facts, main = results["facts"], results["systems"][results["main"]]
    return {
        "kind": "answers",
        **{key: facts.get(key) for key in ("dataset", "split", "finetuning")},
        "questions": results["questions"],
        "exact_match": main["exact_match"],
    }


def _recall(file: epath.Path) -> dict:
    values = read_json(file)
    return {"kind": "recall", "dataset": values["dataset"], "recall": values["recall"]}


def _next(found: dict) -> str:
    """The command that carries the run on, or watches it while it runs."""
    where = found["workdir"]
    if any(process["state"] == "runs" for process in found["processes"]):
        return f"realm inspect {where} --watch"
    pretrained = [phase["state"] == "done" for phase in found["phases"] if phase["name"] in ("pretrain", "init")]
    if not any(pretrained) or not all(phase["state"] == "done" for phase in found["phases"]):
        return f"realm run --workdir={where}"
    if not found["finetunings"]:
        return f"realm finetune --workdir={where} --dataset=cloze"
    newest = found["finetunings"][-1]
    chosen = f"--workdir={where} --dataset={newest['dataset'] or 'cloze'}"
    if newest["state"] != "done":
        return f"realm finetune {chosen}"
    return f"realm eval {chosen}"
