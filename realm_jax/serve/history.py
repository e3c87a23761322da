"""HTML on how a run came about: training curves, index versions, evaluation reports. Read from its files each time."""

import html
import threading
import time
from collections.abc import Sequence

from markdown_it import MarkdownIt
from matplotlib.axes import Axes

from realm_jax import page
from realm_jax.index.versions import IndexStore
from realm_jax.workdir import Workdir, read_json_lines

CURVES = {
    "ict": {"loss": "loss, nats"},
    "warmup": {"loss": "loss, nats per wordpiece"},
    "pretrain": {
        "loss": "loss, nats per wordpiece",
        "utility": "retrieval utility, nats",
        "null_share": "share of the null block",
        "index_age_steps": "index age, steps",
    },
    "finetune": {"loss": "loss, nats", "dev_exact_match": "exact match, development"},
}
"""What is drawn of each phase, with its caption."""
NUM_EVENTS = 40
_drawing = threading.Lock()  # matplotlib's settings are the process's


def training(workdir: Workdir) -> str:
    """Curves of every phase, the index versions on disk and the latest events of the index."""
    phases = [("ict", "ict"), ("warmup", "warmup"), ("pretrain", "pretrain")]
    phases += [("finetune", f"finetune/{folder.name}") for folder in sorted(workdir.path.glob("finetune/*"))]
    figures = [figure for kind, phase in phases for figure in _curves(workdir, kind, phase)]
    parts = ["<h4>Training</h4>", '<div class="charts">', *figures, "</div>"] if figures else []
    for folder in workdir.index_folders:
        store = IndexStore(folder)
        if store.history():
            parts += _index(store, folder.relative_to(workdir.path).as_posix())
    return f'<div class="realm">{"".join(parts) or "<p>Nothing was trained here yet.</p>"}</div>'


def reports(workdir: Workdir) -> dict[str, str]:
    """Files of the reports that there are, relative to the workdir, by title: the newest evaluation first."""
    evaluated = sorted(workdir.path.glob("eval/*/report.html"), key=lambda file: -file.stat().mtime)
    found = {f"Questions: {file.parent.name}": file.relative_to(workdir.path).as_posix() for file in evaluated}
    own = next((name for name in ("report.html", "report.md") if (workdir.path / name).exists()), None)
    return found | ({"The run, on its held-out sentences": own} if own else {})


def report(workdir: Workdir, name: str) -> str:
    """A report in a frame of its own, in which nothing runs.

    Args:
        name: a file of `reports`; anything else says how to make one.
    """
    if name not in reports(workdir).values():
        how = f"python -m realm_jax.eval --workdir={workdir.path}"
        return f'<div class="realm"><p>No report here yet: run <code>{html.escape(how)}</code></p></div>'
    text = (workdir.path / name).read_text()
    if name.endswith(".md"):
        text = page.frame(name, [MarkdownIt("commonmark", {"html": False}).enable("table").render(text)])
    return (
        f'<div class="realm"><iframe sandbox title="{html.escape(name)}" srcdoc="{html.escape(text)}"></iframe></div>'
    )


def _curves(workdir: Workdir, kind: str, phase: str) -> list[str]:
    records, _ = read_json_lines(workdir.phase(phase) / "metrics.jsonl")
    figures = []
    for metric, label in CURVES[kind].items():
        points = [(record["step"], float(record[metric])) for record in records if record.get(metric) is not None]
        if points:
            name = html.escape(phase)
            with _drawing:
                drawn = page.svg(f"{name}: {metric}", lambda axes, p=points: _draw(axes, p))
            figures.append(f"<figure><figcaption>{name}: {label}</figcaption>{drawn}</figure>")
    return figures


def _draw(axes: Axes, points: Sequence[tuple[int, float]]) -> None:
    steps, values = zip(*points, strict=True)
    marker = "o" if len(points) < 3 else ""
    axes.plot(steps, values, color=page.COLOURS[0], linewidth=2, marker=marker)
    axes.set_xlabel("step")
    axes.margins(x=0.02)


def _index(store: IndexStore, name: str) -> list[str]:
    versions, events = store.versions(), store.history()
    rows = []
    for version in reversed(versions):
        probe = version.manifest.get("probe", {})
        recall = [f"{probe[key]:.3f}" if key in probe else "–" for key in ("plain_recall@5", "hard_recall@5")]
        rows.append(
            [version.name, f"{version.step:,}", _when(version.order[1]), f"{version.manifest['num_blocks']:,}", *recall]
        )
    header = ["version", "weights of step", "built", "blocks", "plain recall@5", "hard recall@5"]
    parts = [f"<h4>{html.escape(name)}: versions on disk</h4>", page.table(header, rows, ["version"])]
    shown = [
        [_when(e["time"]), e["event"], e["version"], str(e.get("trainer_step", "")), str(e.get("seconds", ""))]
        for e in reversed(events[-NUM_EVENTS:])
    ]
    more = f", the last {NUM_EVENTS} of {len(events)}" if len(events) > NUM_EVENTS else ""
    header = ["when", "event", "version", "adopted at step", "seconds to build"]
    return [
        *parts,
        f"<h4>{html.escape(name)}: events{more}</h4>",
        page.table(header, shown, ["when", "event", "version"]),
    ]


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
