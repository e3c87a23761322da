"""The curves of a run as SVG, from the metrics that its phases wrote and the history of its index."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes

from realm_jax import drawing
from realm_jax.report import Plot
from realm_jax.workdir import Workdir, read_json_lines

STYLES = ("-", "--")  # where two curves are one, both are seen
POINTS = 200
"""Most points of a curve; more lines of metrics are averaged."""
PLAIN_AND_HARD = (
    "Plain: the sentence as it is; hard: with a salient span masked and the words of its article's title taken out."
)


def run_plots(workdir: Workdir, index: dict) -> list[Plot]:
    """Plots of everything that was measured: ICT's loss, then pre-training and its index.

    Args:
        index: `adopted`: [{"step", "trainer_step"}], and `recall_by_version`: recall of the probe's sentences,
            `plain_recall@1` and so on, by the step of the version; as in the summary.
    """
    found = []
    records, names = _records(workdir, "ict"), {"loss": "loss"}
    found += _curves("ict-loss", "Inverse cloze task: loss", "Loss by step.", records, names, "nats")
    records = _records(workdir, "pretrain")
    text = "Nats per predicted wordpiece: the marginal loss over all blocks, and the loss of the null block alone."
    names = {"loss": "all blocks", "null_loss": "null block alone"}
    found += _curves("loss", "Pre-training: loss", text, records, names, "nats")
    text = (
        "What retrieval is worth: log-likelihood of the right words given a retrieved block less that given the null "
        "block, weighted by p(z|x). Above zero, retrieved blocks help."
    )
    found += _curves("utility", "Retrieval utility", text, records, {"utility": "utility"}, "nats", zero=True)
    text = "Share of p(z|x) on the null block, and on the best block."
    names = {"null_share": "null block", "top_share": "best block"}
    found += _curves("null-share", "Null share", text, records, names, "share of p(z|x)", ends=(0.0, 1.0))
    if any(index["recall_by_version"].values()):
        found.append(_recall(index["recall_by_version"]))
    if records and index["adopted"]:
        found.append(_age(index["adopted"], records[-1]["step"]))
    text = (
        "Seconds that training has waited in all: for the search and gathering of a batch, and for the index builder."
    )
    names = {"retrieval_wait_seconds": "retrieval", "index_wait_seconds": "builder"}
    found += _curves("waits", "Waits", text, _summed(records, names), names, "seconds in all", zero=True)
    return found


def finetuning_plots(workdir: Workdir) -> list[Plot]:
    """Loss and development exact match of every fine-tuning."""
    found = []
    for folder in sorted(workdir.path.glob("finetune/*")):
        phase = f"finetune/{folder.name}"
        records = _records(workdir, phase)
        found += _curves(f"{phase}-loss", f"{phase}: loss", "Loss by step.", records, {"loss": "loss"}, "nats")
        text, names = "Exact match on the development questions.", {"dev_exact_match": "exact match"}
        found += _curves(f"{phase}-match", f"{phase}: exact match", text, records, names, "share", ends=(0.0, 1.0))
    return found


def _records(workdir: Workdir, phase: str) -> list[dict]:
    return read_json_lines(workdir.phase(phase) / "metrics.jsonl")[0]


def _summed(records: Sequence[dict], names: Mapping[str, str]) -> list[dict]:
    """The records with sums up to each of them."""
    sums, found = dict.fromkeys(names, 0.0), []
    for record in records:
        for name in names:
            sums[name] += record.get(name) or 0.0
        if any(name in record for name in names):
            found.append({"step": record["step"], **sums})
    return found


def _curves(
    name: str,
    title: str,
    text: str,
    records: Sequence[dict],
    names: Mapping[str, str],
    unit: str,
    *,
    zero: bool = False,
    ends: tuple[float, float] | None = None,
) -> list[Plot]:
    """One plot of several metrics by step; an empty list if none was measured.

    Args:
        names: label of each metric.
        zero: whether a line marks zero.
        ends: lower and upper end of the axis.
    """
    curves, lines = {}, []
    for metric, label in names.items():
        points = [(record["step"], record[metric]) for record in records if record.get(metric) is not None]
        if points:
            curves[label] = _averaged(np.array(points, np.float64))
            lines.append(len(points))
    if not curves:
        return []
    if max(lines) > POINTS:
        text += f" Each point is the mean of {-(-max(lines) // POINTS)} lines of metrics."

    def draw(axes: Axes) -> None:
        for i, (label, points) in enumerate(curves.items()):
            marker = "o" if len(points) < 3 else ""
            axes.plot(*points.T, label=label, color=drawing.COLOURS[i], linestyle=STYLES[i], marker=marker)
        if zero:
            axes.axhline(0, color=drawing.INK, linewidth=0.8, alpha=0.5)
        if ends is not None:
            axes.set_ylim(*ends)
        axes.set(xlabel="step", ylabel=unit)
        if len(curves) > 1:
            axes.legend()

    return [_plot(name, title, text, draw)]


def _averaged(points: np.ndarray) -> np.ndarray:
    """[n, 2] with at most `POINTS` rows: means of neighbouring rows."""
    width = -(-len(points) // POINTS)
    return np.stack([points[start : start + width].mean(0) for start in range(0, len(points), width)])


def _recall(by_version: Mapping[str, Mapping[str, float]]) -> Plot:
    text = (
        "Share of held-out sentences whose own block is found first, or among the first five, with the weights and the "
        f"index of each version. {PLAIN_AND_HARD}"
    )
    kinds = [f"{kind}_recall@{k}" for kind in ("plain", "hard") for k in (1, 5)]

    def draw(axes: Axes) -> None:
        for i, kind in enumerate(kinds):
            points = sorted((int(step), recall[kind]) for step, recall in by_version.items() if kind in recall)
            if points:
                steps, values = zip(*points, strict=True)
                axes.plot(
                    steps,
                    values,
                    label=kind.replace("_recall", ""),
                    color=drawing.COLOURS[i // 2],
                    linestyle=STYLES[i % 2],
                    marker="os"[i % 2],
                )
        axes.set(xlabel="step of the version", ylabel="recall", ylim=(0, 1))
        axes.legend()

    return _plot("recall", "Recall by index version", text, draw)


def index_age(adopted: Sequence[dict], last_step: int) -> list[tuple[int, int]]:
    """Corners of the index's age by step, which grows by one a step and falls when a version is adopted: (step, age).

    Args:
        adopted: `step` of a version and the `trainer_step` that adopted it, as they came; adoptions that a restart
            undid are dropped.
        last_step: the trainer's.
    """
    kept: list[dict] = []
    for event in adopted:
        while kept and kept[-1]["trainer_step"] >= event["trainer_step"]:
            kept.pop()
        kept.append(event)
    points = []
    for event, limit in zip(kept, [*(event["trainer_step"] for event in kept[1:]), last_step], strict=True):
        points += [(step, step - event["step"]) for step in (event["trainer_step"], limit)]
    return points


def _age(adopted: Sequence[dict], last_step: int) -> Plot:
    text = "Steps since the weights that the index in use was made with. It falls where a new version is adopted."
    points = index_age(adopted, last_step)

    def draw(axes: Axes) -> None:
        axes.plot(*zip(*points, strict=True), color=drawing.COLOURS[0])
        axes.set(xlabel="step", ylabel="steps")
        axes.set_ylim(bottom=0)

    return _plot("index-age", "Index age", text, draw)


def _plot(name: str, title: str, text: str, draw: Callable[[Axes], None]) -> Plot:
    return Plot(name, title, text, drawing.svg(title, draw))
