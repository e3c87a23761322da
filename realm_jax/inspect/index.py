"""Index versions of a workdir: their age and size, how well they search, who uses them, and what is being built."""

import time

from etils import epath

from realm_jax.buckets import is_remote
from realm_jax.index.claims import MANIFEST, OWNER, holders, is_abandoned
from realm_jax.index.history import History
from realm_jax.index.shared_work import how_far
from realm_jax.index.version_manifest import read_manifest
from realm_jax.inspect.problems import Problems
from realm_jax.workdir import read_json, read_json_lines

KINDS = ("published", "adopted", "pruned")


def look(folder: epath.Path, phase: str, trainer_step: int | None, processes: list[dict], problems: Problems) -> dict:
    """The index that serves a phase.

    Args:
        trainer_step: how far that phase is; ages in steps are counted up to it.
        processes: those found in the workdir, which give the holders of pins their names.
    """
    file = folder / "history.jsonl"
    if is_remote(folder):
        events, damaged = problems.part(folder / "history", History(folder).history, []), 0
    else:
        events, damaged = problems.part(file, lambda: read_json_lines(file), ([], 0))
    if damaged:
        problems.note(f"{file}: {damaged} damaged lines are left out")
    roles = {(process["host"], process["pid"]): process["role"] for process in processes}
    versions, drafts, shared = [], [], []
    for part in sorted((folder / "work").glob("*")):
        if far := problems.part(part, lambda part=part: how_far(part), None):
            shared.append({"step": int(part.name.split("-")[0]), **far})
    for part in sorted(folder.glob("step-*")):
        if not (part / MANIFEST).exists():
            drafts += problems.part(part, lambda part=part: _draft(part), [])
        elif version := problems.part(part / MANIFEST, lambda part=part: _version(part), None):
            users = problems.part(part / "pins", lambda part=part: holders(part), [])
            version["users"] = [
                {"host": user["host"], "pid": user["pid"], "role": roles.get((user["host"], user["pid"]))}
                for user in users
            ]
            version["age_steps"] = None if trainer_step is None else trainer_step - version["step"]
            versions.append(version)
    versions.sort(key=lambda version: (version["step"], -version["age_s"]))
    adopted = [event for event in events if event.get("event") == "adopted"]
    return {
        "folder": str(folder),
        "phase": phase,
        "versions": versions,
        "drafts": drafts,
        "shared": shared,
        "events": {kind: sum(event.get("event") == kind for event in events) for kind in KINDS},
        "last_adopted": {key: adopted[-1].get(key) for key in ("version", "step", "trainer_step")} if adopted else None,
    }


def _version(folder: epath.Path) -> dict:
    manifest = read_manifest(folder)
    recall = manifest.get("probe", {})
    return {
        "name": folder.name,
        "step": manifest["step"],
        "age_s": max(0.0, time.time() - manifest["finished"]),
        "blocks": manifest["num_blocks"],
        "dim": manifest["dim"],
        "dtype": manifest["dtype"],
        "search": manifest["search"],
        "build_seconds": manifest["seconds"],
        "bytes": sum(file["bytes"] for file in manifest["files"].values()),
        "recall": recall,
    }


def _draft(folder: epath.Path) -> list[dict]:
    """A version that is being built, or that a dead process left unfinished."""
    owner = read_json(folder / OWNER) if (folder / OWNER).exists() else {}
    state = "abandoned" if is_abandoned(folder) else "being built"
    step = int(folder.name.split("-")[1])
    return [{"name": folder.name, "step": step, "state": state, "host": owner.get("host"), "pid": owner.get("pid")}]
