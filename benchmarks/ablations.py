"""What each part of REALM contributes, over seeds: the paper's Table 2 in small.

    python benchmarks/ablations.py --seeds=0,1,2

Runs `realm ablate` with these flags, which goes on where it was, and keeps what is finished in
benchmarks/results/NAME.json: for each arm the mean exact match and zero-shot recall of every seed, the
difference to REALM, and its verdict.
"""

import argparse
import subprocess
import sys

from report import write_result

from realm_jax.ablations import ablate
from realm_jax.ablations.ablation_table import figures, read_results, table
from realm_jax.commands.ablate import EXPERIMENT

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
        command = [sys.executable, "-m", "realm_jax", "ablate", f"--out={flags.out}", *others]
        subprocess.run(command, check=True)
    arms, results = ablate.load_arms(EXPERIMENT), read_results(f"{flags.out}/{ablate.RESULTS}")
    print(write_result(flags.name, figures(arms, results), f"{flags.note} {NOTE}".strip()))
    print(table(arms, results))


if __name__ == "__main__":
    main()
