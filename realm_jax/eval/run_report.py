"""What a run's summary becomes for people: a Markdown page with plots beside it, and one HTML page with all inside."""

import html as html_lib
from collections.abc import Mapping, Sequence
from typing import Any

from markdown_it import MarkdownIt

from realm_jax import html_page
from realm_jax.eval.run_plots import PLAIN_AND_HARD, Plot
from realm_jax.progress import clock

PLOTS = "plots"
EXAMPLES = "Three masked sentences"
ROWS = {
    "loss with retrieved blocks": "loss_retrieved",
    "loss with random blocks": "loss_random",
    "loss with the null block": "loss_null",
    "accuracy with retrieved blocks": "accuracy_retrieved",
    "accuracy with random blocks": "accuracy_random",
    "accuracy with the null block": "accuracy_null",
    "retrieval utility": "utility",
    "- answer in a candidate": "utility_with_answer",
    "- answer in none": "utility_without_answer",
    "share of p on the null block": "null_share",
    "answer among the candidates": "answer_retrieved",
    "answer among random blocks": "answer_random",
    "plain recall@1": "plain_recall@1",
    "plain recall@5": "plain_recall@5",
    "plain recall@20": "plain_recall@20",
    "hard recall@1": "hard_recall@1",
    "hard recall@5": "hard_recall@5",
    "hard recall@20": "hard_recall@20",
}


def markdown(title: str, summary: dict, examples: str, plots: Sequence[Plot]) -> str:
    """The report as Markdown; its plots are files in the folder `plots` beside it."""
    lines = [f"# {title}", ""]
    if summary["states"]:
        lines += ["## Held-out sentences", "", *_states(summary["states"])]
        lines += ["", "### Paired differences", "", *_differences(summary["differences"]), ""]
    if plots:
        lines += ["## Curves", ""]
    for plot in plots:
        lines += [f"### {plot.title}", "", plot.text, "", f"![{plot.title}]({PLOTS}/{plot.name}.svg)", ""]
    lines += ["## Index", "", *_index(summary["index"]), "", "## Cost", "", *_cost(summary), ""]
    return "\n".join([*lines, f"## {EXAMPLES}", "", examples])


def html(title: str, markdown: str, plots: Sequence[Plot]) -> str:
    """The same page as one HTML file, which loads nothing: the plots stand in it, and no other image does."""
    drawn = {f"{PLOTS}/{plot.name}.svg": plot.svg for plot in plots}
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")

    def image(self: Any, tokens: Sequence[Any], index: int, options: Any, env: Any) -> str:
        del self, options, env
        return drawn.get(tokens[index].attrs["src"], html_lib.escape(tokens[index].content))

    parser.add_render_rule("image", image)
    parser.add_render_rule("table_open", lambda *_: "<div class=scroll><table>\n")
    parser.add_render_rule("table_close", lambda *_: "</table></div>\n")
    return html_page.frame(title, [parser.render(markdown)])


def standalone(svg: str) -> str:
    """A plot as a file of its own, in a grey that shows on black and on white."""
    return svg.replace("<svg ", '<svg color="#808080" ', 1) + "\n"


def _states(states: Mapping[str, dict]) -> list[str]:
    lines = ["Mean ± half the 95% interval; losses in nats per predicted wordpiece.", ""]
    lines += _table(("", *states, "n"))
    for label, key in ROWS.items():
        cells = [of_state.get(key) for of_state in states.values()]
        if any(cells):
            shown = (f"{cell['mean']:.3f} ±{cell['half_width']:.3f}" if cell else "" for cell in cells)
            lines.append(_row((label, *shown, str(cells[-1]["n"]) if cells[-1] else "")))
    lines += ["", f"Recall is of a sentence's own block. {PLAIN_AND_HARD}", "After ICT means: as pre-training starts."]
    return [*lines, "Random blocks are the same for every state."]


def _differences(differences: Mapping[str, dict]) -> list[str]:
    lines = ["Of the same sentences; after REALM less after ICT, where nothing else is said.", ""]
    lines += _table(("", "mean", "95% interval"))
    for name, of in differences.items():
        label = name.removesuffix(": after REALM - after ICT").replace("_", " ")
        low, high = of["mean"] - of["half_width"], of["mean"] + of["half_width"]
        lines.append(_row((label, f"{of['mean']:+.3f}", f"{low:+.3f} to {high:+.3f}")))
    return lines


def _index(index: dict) -> list[str]:
    """A row for each version: when it came, from when the trainer used it, and how well it searches."""
    adopted = {event["step"]: event["trainer_step"] for event in index["adopted"]}
    kinds = ("plain_recall@1", "plain_recall@5", "hard_recall@1", "hard_recall@5")
    header = ("version of step", "built in, s", "used from step", *(kind.replace("_recall", "") for kind in kinds))
    lines = _table(header, words=0)
    for step, seconds in zip(index["published_steps"], index["publish_seconds"], strict=True):
        recall = index["recall_by_version"].get(str(step), {})
        shown = (f"{recall[kind]:.3f}" if kind in recall else "" for kind in kinds)
        lines.append(_row((str(step), f"{seconds:.1f}", str(adopted.get(step, "")), *shown)))
    if "mean_cosine_first_last" in index:
        cosine = index["mean_cosine_first_last"]
        lines += ["", f"Mean cosine of a block's embeddings after ICT and after REALM: {cosine}."]
    waits = f"{index['retrieval_wait_seconds']:.1f} s for retrieval and {index['index_wait_seconds']:.1f} s"
    return [*lines, "", f"Training waited {waits} for the builder."]


def _cost(summary: dict) -> list[str]:
    lines = []
    if seconds := summary.get("phase_seconds"):
        lines += [*_table(("part", "time")), *(_row((name, clock(spent))) for name, spent in seconds.items()), ""]
    if peaks := summary.get("peak_memory_mib"):
        lines += _table(("process", "peak memory, MiB (PSS)"))
        lines += [_row((name, f"{peak:,.0f}")) for name, peak in peaks.items()]
    return lines


def _table(header: Sequence[str], words: int = 1) -> list[str]:
    """The head of a table: the first `words` columns are aligned to the left, numbers to the right."""
    sides = [":---" if i < words else "---:" for i in range(len(header))]
    return [_row(header), f"|{'|'.join(sides)}|"]


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
