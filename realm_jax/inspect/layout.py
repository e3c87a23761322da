"""Parts that the screens of `realm inspect` share: their head and foot, tables, states and numbers."""

from rich.console import RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

COLOURS = {"running": "green", "done": "cyan", "stopped": "yellow", "died": "red", "silent": "red", "not begun": "dim"}
COLOURS |= {"runs": "green", "ended": "cyan", "abandoned": "red", "being built": "green"}


def head(found: dict) -> Panel:
    """The name and folder of a run, and the sizes of its model, training and corpus."""
    config, corpus = found["config"], found["corpus"]
    model, index = config.get("model", {}), config.get("index", {})
    lines = [f"[bold]{escape(str(config.get('name', 'no config')))}[/]  {escape(found['workdir'])}"]
    if model:
        lines.append(
            f"BERT {model.get('num_layers')} × {model.get('hidden_size')}, {model.get('vocab_size')} wordpieces, "
            f"{model.get('dtype')}, init {escape(str(config.get('init')))}, seed {config.get('seed')}"
        )
        pretrain = config.get("pretrain", {})
        lines.append(
            f"batch {pretrain.get('batch_size')} × {pretrain.get('num_candidates')} blocks, index by "
            f"{index.get('search')} every {pretrain.get('index_refresh_every')} steps, builder on {index.get('device')}"
        )
    if corpus:
        deleted = f", {corpus['deleted_blocks']:,} deleted" if corpus["deleted_blocks"] else ""
        counts = f"{corpus['articles']:,} articles, {corpus['blocks']:,} blocks{deleted}, {size(corpus['bytes'])}"
        lines.append(f"corpus {escape(corpus['source'])}: {counts}")
    else:
        lines.append("no corpus yet")
    return Panel("\n".join(lines))


def foot(found: dict) -> list[RenderableType]:
    """What is damaged, and the next command."""
    problems = [Text(f"problem: {problem}", style="red") for problem in found["problems"]]
    return [*problems, Padding(Text.assemble(("next: ", "bold"), found["next"]), (1, 0, 0, 0))]


def events(index: dict) -> str:
    """How many versions of an index have come and gone."""
    return ", ".join(f"{count} {kind}" for kind, count in index["events"].items())


def shared_work(index: dict) -> list[Text]:
    """How far the versions are that are being embedded, and by whom; nothing of a process that is alone with one."""
    lines = []
    for work in index["shared"]:
        if work["parts"] == 1 and len(work["processes"]) < 2:
            continue
        who = [
            f"process {process['pid']} on {process['host']} {'joins' if process['joins'] else 'helps'}"
            for process in work["processes"]
        ]
        done = f"step {work['step']:,}: {work['done']} of {work['parts']} ranges of blocks are embedded"
        lines.append(Text("; ".join([done, *(who or ["nobody is at work"])])))
    return lines


def table_of(*columns: str) -> Table:
    """A table; the columns that begin with `>` are aligned to the right."""
    table = Table(box=None, pad_edge=False, title_justify="left", title_style="bold", header_style="dim")
    for name in columns:
        table.add_column(name.removeprefix(">"), justify="right" if name.startswith(">") else "left")
    return table


def state_text(state: str) -> Text:
    """A state in its colour."""
    return Text(state, style=COLOURS[state])


def number(value: float | None) -> str:
    """A value with four digits; an empty text for anything but a number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    return f"{value:,.4g}" if abs(value) < 1e4 else f"{value:,.0f}"


def size(count: int) -> str:
    """A number of bytes in a unit that keeps it short."""
    scaled, units = float(count), ["B", "kB", "MB", "GB", "TB"]
    while scaled >= 1000 and len(units) > 1:
        scaled, units = scaled / 1000, units[1:]
    return f"{scaled:.0f} B" if units[0] == "B" else f"{scaled:.1f} {units[0]}"
