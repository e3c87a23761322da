"""The screen of `realm inspect --watch`: trainer and index builder side by side."""

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from realm_jax.inspect.layout import events, foot, head, number, shared_work, state_text, table_of
from realm_jax.progress import clock

SHOWN_FIRST = ("loss", "utility", "null_share", "accuracy", "dev_exact_match", "tokens_per_second", "step_seconds")
BARS = "▁▂▃▄▅▆▇█"
CURVE = 24
SIDE_BY_SIDE = 100
"""Columns from which trainer and builder stand beside each other."""


def following(found: dict, width: int) -> Group:
    """Trainer and builder side by side; one above the other on a narrow terminal."""
    phases = found["phases"] + found["finetunings"]
    running = [phase for phase in phases if phase["state"] == "running"]
    begun = [phase for phase in phases if phase["state"] != "not begun"]
    phase = (running or begun or phases[:1] or [None])[-1]
    indexes = [i for i in found["indexes"] if phase and i["phase"] == phase["name"]] or found["indexes"][:1]
    trainer = Panel(_trainer(phase, found["processes"]), title="trainer", title_align="left")
    builder = Panel(_builder(indexes, found["processes"]), title="index builder", title_align="left")
    if width < SIDE_BY_SIDE:
        return Group(head(found), trainer, builder, *foot(found))
    both = Table.grid(expand=True, padding=(0, 1))
    both.add_column(ratio=1)
    both.add_column(ratio=1)
    both.add_row(trainer, builder)
    return Group(head(found), both, *foot(found))


def _trainer(phase: dict | None, processes: list[dict]) -> RenderableType:
    if phase is None:
        return Text("nothing has been trained yet", style="dim")
    head = Table.grid(padding=(0, 2))
    left = f"{clock(phase['eta_s'])} left" if phase["eta_s"] is not None else ""
    head.add_row(f"[bold]{escape(phase['name'])}[/]", state_text(phase["state"]), left)
    parts: list[RenderableType] = [head]
    if phase["steps"]:
        bar = Table.grid(padding=(0, 1))
        bar.add_row(
            ProgressBar(total=phase["steps"], completed=phase["step"], width=CURVE),
            f"{phase['step']:,}/{phase['steps']:,}",
        )
        parts.append(bar)
    facts = []
    if phase["losses"]:
        facts.append(("loss, lately", _sparkline(phase["losses"])))
    last = phase["last"] or {}
    names = [name for name in SHOWN_FIRST if name in last]
    names += [name for name in last if name not in names and name not in ("step", "time")]
    facts += [(name.replace("_", " "), number(last[name])) for name in names]
    if phase["last_age_s"] is not None:
        facts.append(("last line", f"step {last['step']:,}, {clock(phase['last_age_s'])} ago"))
    facts.append(("checkpoints", ", ".join(f"{c['step']:,}" for c in phase["checkpoints"]) or "none"))
    return Group(*parts, _facts(facts), *_signs(processes, phase["name"]))


def _builder(indexes: list[dict], processes: list[dict]) -> RenderableType:
    if not indexes:
        return Text("no index yet", style="dim")
    index = indexes[0]
    table = table_of(">of step", ">steps old", ">age", ">built in", ">R@1", ">R@5", "used by")
    for version in index["versions"]:
        table.add_row(
            f"{version['step']:,}",
            "" if version["age_steps"] is None else f"{version['age_steps']:,}",
            clock(version["age_s"]),
            f"{version['build_seconds']:.1f} s",
            *(number(version["recall"].get(f"plain_recall@{k}")) for k in (1, 5)),
            ", ".join(escape(user["role"] or f"{user['host']}:{user['pid']}") for user in version["users"]),
        )
    drafts = [Text.assemble(f"step {d['step']:,}: ", state_text(d["state"])) for d in index["drafts"]]
    folder = "index" if index["phase"] == "pretrain" else f"{index['phase']}/index"
    counts = Text(events(index), style="dim")
    signs = _signs(processes, folder) or [Text("no builder process has given a sign of life", style="dim")]
    return Group(counts, table, *drafts, *shared_work(index), *signs)


def _signs(processes: list[dict], folder: str) -> list[Text]:
    """A line for each process that works, or worked, in a folder."""
    return [
        Text.assemble(
            state_text(process["state"]),
            f" as {process['pid']} on {process['host']}, last sign {clock(process['age_s'])} ago",
        )
        for process in processes
        if process["folder"] == folder
    ]


def _facts(facts: Iterable[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, 2))
    for name, value in facts:
        table.add_row(Text(name, style="dim"), value)
    return table


def _sparkline(values: list[float]) -> str:
    """The last values as bars between the lowest and the highest of them."""
    values = values[-CURVE:]
    low, span = min(values), (max(values) - min(values)) or 1.0
    return "".join(BARS[round((value - low) / span * (len(BARS) - 1))] for value in values)
