"""One screen with everything that `look` found in a workdir."""

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from realm_jax.inspect.layout import events, foot, head, number, shared_work, size, state_text, table_of
from realm_jax.progress import clock


def overview(found: dict) -> Group:
    """All of `look.look`, for one screen."""
    parts = [_phases(found["phases"] + found["finetunings"]), *map(_versions, found["indexes"])]
    if found["finetunings"] or found["evaluations"]:
        parts.append(_scores(found))
    parts.append(_processes(found["processes"]))
    return Group(head(found), *(Padding(part, (0, 0, 1, 1)) for part in parts), *foot(found))


def _phases(phases: list[dict]) -> Table:
    table = table_of("phase", "", ">steps", ">loss", ">steps/s", ">time left", ">saved at", ">size")
    for phase in phases:
        checkpoints = phase["checkpoints"]
        table.add_row(
            escape(phase["name"]),
            state_text(phase["state"]),
            f"{phase['step']:,}" + (f"/{phase['steps']:,}" if phase["steps"] else ""),
            number((phase["last"] or {}).get("loss")),
            number(phase["steps_per_second"]),
            clock(phase["eta_s"]) if phase["eta_s"] is not None else "",
            " ".join(str(checkpoint["step"]) for checkpoint in checkpoints),
            size(sum(checkpoint["bytes"] for checkpoint in checkpoints)) if checkpoints else "",
        )
    return table


def _versions(index: dict) -> RenderableType:
    title = f"index of {index['phase']}"
    if not index["versions"] and not index["drafts"]:
        return Text(f"{title}: no version yet", style="dim")
    table = table_of(">of step", ">steps old", ">age", ">blocks", "search", ">size", ">recall@5", "used by", "id")
    table.title = f"{title}: {events(index)}"
    for version in index["versions"]:
        users = (user["role"] or f"{user['host']}:{user['pid']}" for user in version["users"])
        table.add_row(
            f"{version['step']:,}",
            "" if version["age_steps"] is None else f"{version['age_steps']:,}",
            clock(version["age_s"]),
            f"{version['blocks']:,}",
            version["search"],
            size(version["bytes"]),
            number(version["recall"].get("plain_recall@5")),
            escape(", ".join(users)),
            version["name"].rpartition("-")[2],
        )
    for draft in index["drafts"]:
        cells = [""] * 6
        table.add_row(f"{draft['step']:,}", *cells, state_text(draft["state"]), draft["name"].rpartition("-")[2])
    return Group(table, *shared_work(index))


def _scores(found: dict) -> Table:
    table = table_of("exact match of", "on", ">questions", ">exact match, %")
    for tuned in found["finetunings"]:
        if tuned["best"]:
            best = f"{100 * tuned['best']['exact_match']:.1f} (step {tuned['best']['step']:,})"
            table.add_row(escape(tuned["name"]), "its development questions", "", best)
    for result in found["evaluations"]:
        if result["kind"] == "answers":
            mean = result["exact_match"]
            where = " ".join(filter(None, (result["dataset"], result["split"])))
            score = f"{100 * mean['mean']:.1f} ({100 * mean['low']:.1f} to {100 * mean['high']:.1f})"
            table.add_row(escape(f"finetune/{result['finetuning']}"), escape(where), f"{result['questions']:,}", score)
        else:
            table.add_row("retrieval", escape(result["dataset"]), "", f"see eval/{escape(result['name'])}/recall.json")
    return table


def _processes(processes: list[dict]) -> RenderableType:
    if not processes:
        return Text("no process has given a sign of life here", style="dim")
    table = table_of("process", "at", "", ">last sign", "host", ">id")
    for process in processes:
        table.add_row(
            escape(process["role"]),
            escape(process.get("doing") or process["folder"]),
            state_text(process["state"]),
            clock(process["age_s"]) + " ago",
            escape(process["host"]),
            str(process["pid"]),
        )
    return table
