"""The history of a run as HTML, read from its files each time: training curves, index versions, evaluation reports."""

import html
import threading
import time

from realm_jax import html_page
from realm_jax.eval.run_plots import PLAIN_AND_HARD, finetuning_plots, run_plots
from realm_jax.eval.summary import index_facts
from realm_jax.index.store import IndexStore
from realm_jax.inference import fragments
from realm_jax.report import Marked, parts_as_html
from realm_jax.workdir import Workdir

NUM_EVENTS = 40
_drawing = threading.Lock()  # matplotlib's settings are the process's


def training(workdir: Workdir) -> str:
    """Curves of every phase, the index versions on disk and the latest events of the index."""
    with _drawing:
        plots = [*run_plots(workdir, index_facts(workdir)), *finetuning_plots(workdir)]
    figures = [
        f"<figure><figcaption>{html.escape(plot.title)}</figcaption>{plot.svg}<p>{html.escape(plot.text)}</p></figure>"
        for plot in plots
    ]
    parts = ["<h4>Training</h4>", '<div class="charts">', *figures, "</div>"] if figures else []
    for folder in workdir.index_folders:
        store = IndexStore(folder)
        if store.history():
            parts += _index(store, folder.relative_to(workdir.path).as_posix())
    return fragments.frame(parts or ["<p>Nothing was trained here yet.</p>"])


def reports(workdir: Workdir) -> dict[str, str]:
    """The reports that exist, the newest evaluation first: title -> file, relative to the workdir."""
    evaluated = sorted(workdir.path.glob("eval/*/report.html"), key=lambda file: -file.stat().mtime)
    found = {f"Questions: {file.parent.name}": file.relative_to(workdir.path).as_posix() for file in evaluated}
    own = next((name for name in ("report.html", "report.md") if (workdir.path / name).exists()), None)
    return found | ({"The run, on its held-out sentences": own} if own else {})


def report(workdir: Workdir, name: str) -> str:
    """A report in a frame of its own, in which nothing runs.

    Args:
        name: a file of `reports`; for any other name the page says how to make a report.
    """
    if name not in reports(workdir).values():
        how = f"realm eval --workdir={workdir.path}"
        return fragments.frame([f"<p>No report here yet: run <code>{html.escape(how)}</code></p>"])
    text = (workdir.path / name).read_text(encoding="utf-8")
    if name.endswith(".md"):
        text = html_page.frame(name, [parts_as_html([Marked(text)])])
    return fragments.frame([f'<iframe sandbox title="{html.escape(name)}" srcdoc="{html.escape(text)}"></iframe>'])


def _index(store: IndexStore, name: str) -> list[str]:
    versions, events = store.whole_versions(), store.history()
    rows = []
    for version in reversed(versions):
        probe = version.manifest.get("probe", {})
        recall = [f"{probe[key]:.3f}" if key in probe else "–" for key in ("plain_recall@5", "hard_recall@5")]
        rows.append(
            [version.name, f"{version.step:,}", _when(version.order[1]), f"{version.manifest['num_blocks']:,}", *recall]
        )
    header = ["version", "weights of step", "built", "blocks", "plain recall@5", "hard recall@5"]
    parts = [f"<h4>{html.escape(name)}: versions on disk</h4>", html_page.table(header, rows, ["version"])]
    shown = [
        [_when(e["time"]), e["event"], e["version"], str(e.get("trainer_step", "")), str(e.get("seconds", ""))]
        for e in reversed(events[-NUM_EVENTS:])
    ]
    more = f", the last {NUM_EVENTS} of {len(events)}" if len(events) > NUM_EVENTS else ""
    header = ["when", "event", "version", "adopted at step", "seconds to build"]
    return [
        *parts,
        f"<p>Recall is of a held-out sentence's own block. {html.escape(PLAIN_AND_HARD)}</p>",
        f"<h4>{html.escape(name)}: events{more}</h4>",
        html_page.table(header, shown, ["when", "event", "version"]),
    ]


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
