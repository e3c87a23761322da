"""The report of a run: its summary as sections of text, tables and plots."""

from collections.abc import Mapping, Sequence

from realm_jax import report
from realm_jax.eval.run_plots import PLAIN_AND_HARD
from realm_jax.progress import clock
from realm_jax.report import Part, Plot, Section, Table

EXAMPLES = "Three masked sentences"
ROWS = {
    "loss with retrieved blocks": "loss_retrieved",
    "loss with random blocks": "loss_random",
    "loss with the null block": "loss_null",
    "accuracy with retrieved blocks": "accuracy_retrieved",
    "accuracy with random blocks": "accuracy_random",
    "accuracy with the null block": "accuracy_null",
    "span right with retrieved blocks": "right_retrieved",
    "span right with random blocks": "right_random",
    "span right with the null block": "right_null",
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


def markdown(title: str, summary: dict, examples: Sequence[Part], plots: Sequence[Plot]) -> str:
    """The report as Markdown; its plots are files beside it.

    Args:
        examples: masked sentences, as `examples.describe` shows them.
    """
    return report.markdown(title, sections(summary, examples, plots))


def html(title: str, summary: dict, examples: Sequence[Part], plots: Sequence[Plot]) -> str:
    """The same page as one HTML file, with its plots inside."""
    return report.html(title, sections(summary, examples, plots))


def sections(summary: dict, examples: Sequence[Part], plots: Sequence[Plot]) -> list[Section]:
    """The sections of both pages; what was not measured has none."""
    found = []
    if summary["states"]:
        found.append(Section("Held-out sentences", _states(summary["states"], summary.get("sample"))))
        found.append(Section("Paired differences", _differences(summary["differences"]), level=3))
    if plots:
        found.append(Section("Curves", plots))
    found += [Section("Index", _index(summary["index"])), Section("Cost", _cost(summary))]
    return [*found, Section(EXAMPLES, examples)]


def _states(states: Mapping[str, dict], sample: Mapping | None) -> list[Part]:
    rows = []
    for label, key in ROWS.items():
        cells = [of_state.get(key) for of_state in states.values()]
        if any(cells):
            shown = (f"{cell['mean']:.3f} ±{cell['half_width']:.3f}" if cell else "" for cell in cells)
            rows.append((label, *shown, str(cells[-1]["n"]) if cells[-1] else ""))
    said = f"Recall is of a sentence's own block. {PLAIN_AND_HARD} After ICT means: as pre-training starts. "
    said += "Random blocks are the same for every state."
    what = "Mean ± half the 95% interval; losses in nats per predicted wordpiece."
    judged = [f"The corpus is searched {sample['says']}."] if sample else []
    return [what, *judged, Table(("", *states, "n"), rows, words=("",)), said]


def _differences(differences: Mapping[str, dict]) -> list[Part]:
    rows = []
    for name, of in differences.items():
        label = name.removesuffix(": after REALM - after ICT").replace("_", " ")
        low, high = of["mean"] - of["half_width"], of["mean"] + of["half_width"]
        rows.append((label, f"{of['mean']:+.3f}", f"{low:+.3f} to {high:+.3f}"))
    said = "Of the same sentences; after REALM less after ICT, where nothing else is said."
    return [said, Table(("", "mean", "95% interval"), rows, words=("",))]


def _index(index: dict) -> list[Part]:
    """A row for each version: how long it took to build, since when the trainer used it, and how well it searches."""
    # A restart adopts a version again, later or, after a kill, earlier: of several steps the first stays.
    events = sorted(index["adopted"], key=lambda event: -event["trainer_step"])
    adopted = {event["step"]: event["trainer_step"] for event in events}
    kinds = ("plain_recall@1", "plain_recall@5", "hard_recall@1", "hard_recall@5")
    header = ("version of step", "built in, s", "used from step", *(kind.replace("_recall", "") for kind in kinds))
    rows = []
    for step, seconds in zip(index["published_steps"], index["publish_seconds"], strict=True):
        recall = index["recall_by_version"].get(str(step), {})
        shown = (f"{recall[kind]:.3f}" if kind in recall else "" for kind in kinds)
        rows.append((str(step), f"{seconds:.1f}", str(adopted.get(step, "")), *shown))
    found: list[Part] = [Table(header, rows)]
    if "mean_cosine_first_last" in index:
        cosine = index["mean_cosine_first_last"]
        found.append(f"Mean cosine of a block's embeddings after ICT and after REALM: {cosine}.")
    waits = f"{index['retrieval_wait_seconds']:.1f} s for retrieval and {index['index_wait_seconds']:.1f} s"
    return [*found, f"Training waited {waits} for the builder."]


def _cost(summary: dict) -> list[Part]:
    found: list[Part] = []
    if seconds := summary.get("phase_seconds"):
        rows = [(name, clock(spent)) for name, spent in seconds.items()]
        found.append(Table(("part", "time"), rows, words=("part",)))
    if peaks := summary.get("peak_memory_mib"):
        rows = [(name, f"{peak:,.0f}") for name, peak in peaks.items()]
        found.append(Table(("process", "peak memory, MiB (PSS)"), rows, words=("process",)))
    return found
