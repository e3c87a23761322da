"""What a finished run shows at its end: its main measurements and examples, from `summary.json` and `report.md`."""

from collections.abc import Mapping

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.markdown import Markdown
from rich.table import Table

from realm_jax.eval.run_report import EXAMPLES, ROWS
from realm_jax.eval.summary import WITH_BLOCKS_ALONE
from realm_jax.workdir import Workdir, read_json

HEAD = 4  # lines of an example's table: names, rule, null block, best block
SHOWN = (
    "loss_retrieved",
    "loss_null",
    "accuracy_retrieved",
    "right_retrieved",
    "utility",
    "answer_retrieved",
    "plain_recall@5",
    "hard_recall@5",
)


def last_screen(workdir: Workdir) -> RenderableType:
    """The table of the run's three states and the masked sentences of its report, for a terminal."""
    summary = read_json(workdir.summary_file)
    states = summary["states"]
    examples = Markdown(_shortened((workdir.path / "report.md").read_text(encoding="utf-8")))
    sample = [f"  {summary['sample']['says']}"] if "sample" in summary else []
    share = [_share(of)] if (of := summary["differences"].get(WITH_BLOCKS_ALONE)) else []
    return Group(*([_table(states), *sample, ""] if states else []), examples, *share)


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


def _shortened(report: str) -> str:
    """The sentences of the report, or what it says instead; of their blocks the null block and the best one."""
    _, _, examples = report.partition(f"## {EXAMPLES}\n")
    parts = examples.strip().split("\n\n")
    return "\n\n".join("\n".join(part.splitlines()[:HEAD]) if part.startswith("|") else part for part in parts)


def _share(of: Mapping) -> str:
    """Chosen for their blocks and not for what is predicted, the sentences above may show the contrary."""
    share = f"{of['mean']:+.1%} ±{of['half_width']:.1%} of {of['n']:,} blanks"
    return f"Right with the retrieved blocks and wrong with the null block, less the reverse: {share}."
