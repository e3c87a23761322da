"""Training phases of a workdir: how far each is, how fast it goes, what it measured last, and its checkpoints."""

import contextlib
import functools
import statistics
import time

from etils import epath

from realm_jax import heartbeat
from realm_jax.inspect.problems import Problems
from realm_jax.workdir import read_json, read_json_lines

RATE_RECORDS = 9
CURVE_RECORDS = 60
STATES = {"runs": "running", "ended": "stopped", "died": "died", "silent": "silent"}


def training_phases(path: epath.Path, config: dict, problems: Problems) -> list[dict]:
    """The phases that the config asks for, and any other that is there, in their order."""
    asked = {"init": None, **{name: config.get(name, {}).get("steps") for name in ("ict", "pretrain")}}
    there = {name: steps for name, steps in asked.items() if steps or (path / name).exists()}
    return [_phase(path / name, name, steps, problems) for name, steps in there.items()]


def finetuned(path: epath.Path) -> list[epath.Path]:
    """Folders of the fine-tunings, the one that trained last at the end."""
    return sorted((file.parent for file in (path / "finetune").glob("*/config.json")), key=_last_change)


def finetunings(path: epath.Path, problems: Problems) -> list[dict]:
    """The fine-tunings, as phases with their question set and the best exact match on its development questions."""
    found = []
    for folder in finetuned(path):
        phase = _phase(folder, f"finetune/{folder.name}", None, problems)
        config, scores = folder / "config.json", folder / "evaluations.json"
        phase["dataset"] = problems.part(config, lambda file=config: read_json(file)["dataset"], None)
        phase["best"] = problems.part(scores, lambda file=scores: _best(read_json(file)["evaluations"]), None)
        found.append(phase)
    return found


def _phase(folder: epath.Path, name: str, steps: int | None, problems: Problems) -> dict:
    done = problems.part(folder / "DONE", lambda: read_json(folder / "DONE")["step"], None)
    beat = problems.part(folder / heartbeat.FILE, lambda: heartbeat.read(folder), None)
    records, damaged = problems.part(
        folder / "metrics.jsonl", lambda: read_json_lines(folder / "metrics.jsonl"), ([], 0)
    )
    if damaged:
        problems.note(f"{folder / 'metrics.jsonl'}: {damaged} damaged lines are left out (of {len(records) + damaged})")
    records = [record for record in records if _is_number(record.get("step")) and _is_number(record.get("time"))]
    checkpoints = problems.part(folder / "checkpoints", lambda: _checkpoints(folder / "checkpoints"), [])
    seen = [done or 0, *(record["step"] for record in records[-1:]), *(c["step"] for c in checkpoints[-1:])]
    step, steps = max(seen), steps or (beat or {}).get("steps") or done
    state = "done" if done is not None else STATES[beat["state"]] if beat else "stopped" if checkpoints else "not begun"
    pace = _seconds_per_step(records) if state == "running" else None
    return {
        "name": name,
        "state": state,
        "step": step,
        "steps": steps,
        "steps_per_second": round(1 / pace, 4) if pace else None,
        "eta_s": round(pace * max(0, steps - step), 1) if pace and steps else None,
        "last": records[-1] if records else None,
        "last_age_s": max(0.0, time.time() - records[-1]["time"]) if records else None,
        "losses": [record["loss"] for record in records if _is_number(record.get("loss"))][-CURVE_RECORDS:],
        "checkpoints": checkpoints,
    }


def _seconds_per_step(records: list[dict]) -> float | None:
    """The median over the last lines of metrics, which a single pause does not change."""
    recent = records[-RATE_RECORDS:]
    pairs = zip(recent, recent[1:], strict=False)
    found = [(b["time"] - a["time"]) / (b["step"] - a["step"]) for a, b in pairs if b["step"] > a["step"]]
    return statistics.median(found) if found and statistics.median(found) > 0 else None


def _checkpoints(folder: epath.Path) -> list[dict]:
    """`step`, `bytes` and `age_s` of the complete checkpoints, oldest first."""
    if not folder.exists():
        return []
    complete = [f for f in folder.iterdir() if f.name.isdigit() and (f / "_CHECKPOINT_METADATA").exists()]
    found = []
    for checkpoint in sorted(complete, key=lambda checkpoint: int(checkpoint.name)):
        with contextlib.suppress(OSError):  # it is being pruned
            age_s = max(0.0, time.time() - (checkpoint / "_CHECKPOINT_METADATA").stat().mtime)
            found.append({"step": int(checkpoint.name), "bytes": _size(checkpoint), "age_s": age_s})
    return found


@functools.lru_cache(maxsize=1024)
def _size(folder: epath.Path) -> int:
    """Bytes of all files below a folder that does not change any more."""
    return sum(_size(path) if path.is_dir() else path.stat().length for path in folder.iterdir())


def _best(evaluations: list[dict]) -> dict | None:
    """The first evaluation with the best exact match, and how many there were."""
    if not evaluations:
        return None
    return {**max(evaluations, key=lambda e: (e["exact_match"], -e["step"])), "evaluations": len(evaluations)}


def _last_change(folder: epath.Path) -> int | float:
    files = [file for file in (folder / "metrics.jsonl", folder / "config.json") if file.exists()]
    return max((file.stat().mtime for file in files), default=0.0)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
