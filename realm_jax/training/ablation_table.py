"""The table of an ablation: each arm's mean over seeds beside the paper's, and whether the effect goes the same way."""

import json
import pathlib
from typing import TYPE_CHECKING

import numpy as np
import scipy.stats

if TYPE_CHECKING:
    from realm_jax.training.arms import Arm

REFERENCE = "realm"
MEASURES = {"exact_match": ("EM", 0), "recall@5": ("R@5", 1), "recall@1": ("R@1", 1)}  # heading, paper's figure


def read_results(folder: str | pathlib.Path) -> dict[str, dict[int, dict]]:
    """Results of finished arms, by arm and seed."""
    results: dict[str, dict[int, dict]] = {}
    for file in sorted(pathlib.Path(folder).glob("*.json")):
        result = json.loads(file.read_text())
        results.setdefault(result["arm"], {})[result["seed"]] = result
    return results


def over_seeds(values: list[float]) -> tuple[float, float]:
    """Mean, and half of its 95% interval by Student's t over seeds; NaN for a single one."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, float("nan")
    error = float(np.std(values, ddof=1)) / len(values) ** 0.5
    return mean, float(scipy.stats.t.ppf(0.975, len(values) - 1)) * error


def effect(result: dict[int, dict], reference: dict[int, dict], measure: str) -> tuple[float, float]:
    """Arm minus REALM on the same questions, with half of its 95% interval.

    Over the seeds that both have; over the questions (normal approximation) where that is a single one.
    """
    seeds = sorted(result.keys() & reference.keys())
    differences = [np.subtract(result[s]["values"][measure], reference[s]["values"][measure]) for s in seeds]
    if len(seeds) == 1:
        values = np.asarray(differences[0], float)
        return float(values.mean()), float(1.96 * values.std(ddof=1) / len(values) ** 0.5)
    return over_seeds([float(np.mean(d)) for d in differences])


def verdict(difference: float, half_width: float, expected: float) -> str:
    """Whether an effect has the paper's direction, and is larger than its own noise."""
    if not abs(difference) > half_width:  # also where there is no interval
        return "within noise"
    return "held" if difference * expected > 0 else "not held"


def table(arms: "dict[str, Arm]", results: dict[str, dict[int, dict]]) -> str:
    """Markdown: exact match and zero-shot recall in percent, the paper's beside ours, and the effects."""
    headings = [heading for heading, _ in MEASURES.values()]
    columns = ["paper EM", "paper R@5", *headings, *(f"{h} − REALM's" for h in headings), "index age", "seeds"]
    lines = [f"| | {' | '.join(columns)} |", "|---|" + "---:|" * len(columns)]
    reference = results.get(REFERENCE, {})
    for name, arm in arms.items():
        if name not in results:
            continue
        of_arm = results[name]
        cells = [f"{value:.1f}" for value in arm.paper] if arm.paper else ["", ""]
        for measure in MEASURES:
            mean, half_width = over_seeds([float(np.mean(r["values"][measure])) for r in of_arm.values()])
            cells.append(f"{100 * mean:.1f}" + (f" ±{100 * half_width:.1f}" if half_width == half_width else ""))
        for measure, (_, i) in MEASURES.items():
            cells.append("")
            if name != REFERENCE and of_arm.keys() & reference.keys():
                difference, half_width = effect(of_arm, reference, measure)
                cells[-1] = f"{100 * difference:+.1f} ±{100 * half_width:.1f}"
                expected = arm.paper[i] - arms[REFERENCE].paper[i] if arm.paper else 0.0
                cells[-1] += f" {verdict(difference, half_width, expected)}" if expected else ""
        ages = [r["index_age_steps"]["mean"] for r in of_arm.values() if r["index_age_steps"]]
        cells.append(f"{np.mean(ages):.0f}" if ages else "")
        lines.append(f"| {arm.label} | " + " | ".join(cells) + f" | {len(of_arm)} |")
    lines.append("")
    lines.append(
        "R@k is the retriever's before fine-tuning. ± is half the 95% interval: over seeds (Student's t), or over"
    )
    lines.append("questions where there is one seed. Index age: mean over all steps, in steps.")
    return "\n".join(lines)
