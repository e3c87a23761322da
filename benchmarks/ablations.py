"""What each part of REALM contributes, over seeds: the paper's Table 2 in small.

    python benchmarks/ablations.py --seeds=0,1,2

Runs `python -m realm_jax.training.ablate` with these flags, which goes on where it was, and keeps what is finished in
benchmarks/results/NAME.json: for each arm the mean exact match and zero-shot recall of every seed, the
difference to REALM, and its verdict.
"""

import argparse
import statistics
import subprocess
import sys

from report import write_result

from realm_jax.training import ablate
from realm_jax.training.ablation_table import MEASURES, REFERENCE, effect, read_results, table, verdict

QUESTIONS = "Cloze questions, test; the settings were chosen on seed 0's development questions."
NOTE = (
    "Baseline encoder: BERT as it came. Differences are paired; their "
    "intervals are over seeds (Student's t), or over questions where there is one seed."
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default="runs/ablations", help="folder of the runs")
    parser.add_argument("--collect", action="store_true", help="only collect what is finished")
    parser.add_argument("--name", default="ablations", help="of the result")
    parser.add_argument("--note", default=QUESTIONS, help="before the result's own note: what was asked")
    flags, others = parser.parse_known_args()
    if not flags.collect:
        command = [sys.executable, "-m", "realm_jax.training.ablate", f"--out={flags.out}", *others]
        subprocess.run(command, check=True)
    arms, results = ablate.load_arms(ablate.EXPERIMENT), read_results(f"{flags.out}/{ablate.RESULTS}")
    rows = {name: row(arms, name, results) for name in arms if name in results}
    print(write_result(flags.name, rows, f"{flags.note} {NOTE}".strip()))
    print(table(arms, results))


def row(arms: dict, name: str, results: dict) -> dict:
    """One arm's figures."""
    arm, of_arm, reference = arms[name], results[name], results.get(REFERENCE, {})
    figures = {"label": arm.label, "paper": arm.paper, "seeds": sorted(of_arm)}
    figures["questions"] = len(next(iter(of_arm.values()))["values"]["exact_match"])
    for measure, (_, i) in MEASURES.items():
        means = {seed: round(statistics.mean(r["values"][measure]), 4) for seed, r in sorted(of_arm.items())}
        figures[measure] = {"mean": round(statistics.mean(means.values()), 4), "by_seed": means}
        if name != REFERENCE and of_arm.keys() & reference.keys():
            difference, half_width = effect(of_arm, reference, measure)
            figures[f"{measure} minus REALM's"] = {"mean": round(difference, 4), "half_width": round(half_width, 4)}
            if arm.paper:
                expected = arm.paper[i] - arms[REFERENCE].paper[i]
                figures[f"{measure} minus REALM's"]["verdict"] = verdict(difference, half_width, expected)
    figures["index_age_steps"] = round(statistics.mean(r["index_age_steps"]["mean"] for r in of_arm.values()), 1)
    figures["seconds"] = {seed: r["seconds"] for seed, r in sorted(of_arm.items())}
    return figures


if __name__ == "__main__":
    main()
