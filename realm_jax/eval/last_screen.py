"""What a finished run shows at its end: its main measurements and one example, from `summary.json` and `report.md`."""

from collections.abc import Mapping

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.markdown import Markdown
from rich.table import Table

from realm_jax.eval.run_report import EXAMPLES, ROWS
from realm_jax.workdir import Workdir, read_json

SHOWN = (
    "loss_retrieved",
    "loss_null",
    "accuracy_retrieved",
    "utility",
    "answer_retrieved",
    "plain_recall@5",
    "hard_recall@5",
)


def last_screen(workdir: Workdir) -> RenderableType:
    """The table of the run's three states and the first masked sentence of its report, for a terminal."""
    summary = read_json(workdir.summary_file)
    states = summary["states"]
    example = Markdown(_first_example((workdir.path / "report.md").read_text(encoding="utf-8")))
    sample = [f"  {summary['sample']['says']}"] if "sample" in summary else []
    return Group(_table(states), *sample, "", example) if states else Group(example)


def _table(states: Mapping[str, Mapping[str, dict]]) -> Table:
    table = Table("", title="Held-out sentences: mean ± half the 95% interval", title_justify="left", box=SIMPLE_HEAD)
    for name in (*states, "n"):
        table.add_column(name, justify="right")
    for label, key in ROWS.items():
        cells = [state[key] for state in states.values() if key in state]
        if key in SHOWN and len(cells) == len(states):
            shown = [f"{cell['mean']:.3f} ±{cell['half_width']:.3f}" for cell in cells]
            table.add_row(label, *shown, f"{cells[-1]['n']:,}")
    return table


def _first_example(report: str) -> str:
    """The first sentence with its candidates; what the report says instead, where it has none."""
    _, _, examples = report.partition(f"## {EXAMPLES}\n")
    return examples.strip().split("\n\n**")[0]
