"""The table of an ablation: each arm's mean over seeds beside the paper's, and whether effects have one direction."""

import json
import math
import pathlib

import numpy as np
import scipy.stats

from realm_jax import report
from realm_jax.ablations.arms import Arm

REFERENCE = "realm"
MINUS = " minus REALM's"
MEASURES = {"exact_match": ("EM", 0), "recall@5": ("R@5", 1), "recall@1": ("R@1", 1)}  # heading, paper's figure


def read_results(folder: str | pathlib.Path) -> dict[str, dict[int, dict]]:
    """The results of finished arms, by arm and seed."""
    results: dict[str, dict[int, dict]] = {}
    for file in sorted(pathlib.Path(folder).glob("*.json")):
        result = json.loads(file.read_text(encoding="utf-8"))
        results.setdefault(result["arm"], {})[result["seed"]] = result
    return results


def over_seeds(values: list[float]) -> tuple[float, float]:
    """The mean, and half of its 95% interval by Student's t over seeds, which is NaN for a single seed."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, float("nan")
    error = float(np.std(values, ddof=1)) / len(values) ** 0.5
    return mean, float(scipy.stats.t.ppf(0.975, len(values) - 1)) * error


def effect(result: dict[int, dict], reference: dict[int, dict], measure: str) -> tuple[float, float]:
    """The difference between an arm and REALM on the same questions, and half of its 95% interval.

    The interval is over the seeds that both have, or over the questions (normal approximation) if that is a single one.
    """
    seeds = sorted(result.keys() & reference.keys())
    differences = [np.subtract(result[s]["values"][measure], reference[s]["values"][measure]) for s in seeds]
    if len(seeds) == 1:
        values = np.asarray(differences[0], float)
        return float(values.mean()), float(1.96 * values.std(ddof=1) / len(values) ** 0.5)
    return over_seeds([float(np.mean(d)) for d in differences])


def verdict(difference: float, half_width: float, expected: float) -> str:
    """Whether an effect has the paper's direction and is larger than its noise."""
    if not abs(difference) > half_width:  # also where there is no interval
        return "within noise"
    return "held" if difference * expected > 0 else "not held"


def figures(arms: dict[str, Arm], results: dict[str, dict[int, dict]]) -> dict[str, dict]:
    """The table's figures of each finished arm, in the order of `arms`, as JSON can hold them.

    Each measure has its mean over seeds and its difference to REALM (`minus REALM's`), both with the values by seed and
    `half_width`, half of the 95% interval; the mean of a single seed has none. Where the paper found an effect, the
    difference has a `verdict`.
    """
    reference = results.get(REFERENCE, {})
    return {name: _of_arm(arms, name, results[name], reference) for name in arms if name in results}


def _of_arm(arms: dict[str, Arm], name: str, of_arm: dict[int, dict], reference: dict[int, dict]) -> dict:
    arm, seeds = arms[name], sorted(of_arm)
    found = {"label": arm.label, "paper": arm.paper, "seeds": seeds}
    found["questions"] = len(of_arm[seeds[0]]["values"]["exact_match"])
    for measure, (_, i) in MEASURES.items():
        means = {seed: float(np.mean(of_arm[seed]["values"][measure])) for seed in seeds}
        found[measure] = _rounded(*over_seeds(list(means.values())), means)
        theirs = {seed: float(np.mean(reference[seed]["values"][measure])) for seed in seeds if seed in reference}
        if name != REFERENCE and theirs:
            difference, half_width = effect(of_arm, reference, measure)
            minus = _rounded(difference, half_width, {seed: means[seed] - mean for seed, mean in theirs.items()})
            if arm.paper and (expected := arm.paper[i] - arms[REFERENCE].paper[i]):
                minus["verdict"] = verdict(difference, half_width, expected)
            found[f"{measure}{MINUS}"] = minus
    found["index_age_steps"] = round(float(np.mean([of_arm[seed]["index_age_steps"]["mean"] for seed in seeds])), 1)
    found["seconds"] = {seed: of_arm[seed]["seconds"] for seed in seeds}
    return found


def _rounded(mean: float, half_width: float, by_seed: dict[int, float]) -> dict:
    interval = {} if math.isnan(half_width) else {"half_width": round(half_width, 4)}
    return {"mean": round(mean, 4), **interval, "by_seed": {seed: round(value, 4) for seed, value in by_seed.items()}}


def markdown(rows: dict[str, dict]) -> str:
    """The figures that `figures` returned as a Markdown table, in percent."""
    headings = [heading for heading, _ in MEASURES.values()]
    header = ("", "paper EM", "paper R@5", *headings, *(f"{h} − REALM's" for h in headings), "index age", "seeds")
    lines = []
    for row in rows.values():
        cells = [f"{value:.1f}" for value in row["paper"] or ()] or ["", ""]
        cells += [_cell(row[measure], "") for measure in MEASURES]
        cells += [_cell(row[f"{measure}{MINUS}"], "+") if f"{measure}{MINUS}" in row else "" for measure in MEASURES]
        lines.append((row["label"], *cells, f"{row['index_age_steps']:.0f}", str(len(row["seeds"]))))
    return report.table(header, lines, words=("",))


def _cell(figure: dict, sign: str) -> str:
    interval = f" ±{100 * figure['half_width']:.1f}" if "half_width" in figure else ""
    return f"{100 * figure['mean']:{sign}.1f}{interval} {figure.get('verdict', '')}".strip()


def table(arms: dict[str, Arm], results: dict[str, dict[int, dict]]) -> str:
    """Markdown: exact match and zero-shot recall in percent, the paper's beside ours, and the effects."""
    return f"""{markdown(figures(arms, results))}

R@k is the retriever's before fine-tuning. ± is half the 95% interval: over seeds (Student's t), or over
questions where there is one seed. Index age: mean over all steps, in steps."""
