"""What an epoch counts, measured on the embedded default: every span (as its results were made) or every block, once.

    python benchmarks/sampling.py [--seed=0]

Both runs start from the same ICT and take the same number of steps; `span` is the run of `make pretrain` (runs/nano),
`block` is runs/nano-block. Finished ones are only evaluated. Writes benchmarks/results/sampling.json
(sampling_seed1.json for --seed=1): both states after REALM, paired differences on the same held-out sentences, and how
the examples of each sampling spread over sentences with few or many spans.
"""

import argparse
import dataclasses
import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
from report import write_result

from realm_jax.data.pipeline import MaskedSentences
from realm_jax.data.prepare import open_prepared
from realm_jax.eval.summary import STATES, per_example_file
from realm_jax.scores import recall
from realm_jax.workdir import Workdir

NOTE = "One seed; the other settings were chosen with `span`."
PAIRED = (
    "plain_recall@1",
    "hard_recall@1",
    "answer_retrieved",
    "utility",
    "loss_retrieved",
    "loss_random",
    "loss_null",
)
MOST = 5  # spans of a sentence that are told apart


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--config", default="experiments/nano.py", help="another experiment, to try this script")
    parser.add_argument("--runs", default="runs", help="folder of both runs")
    flags = parser.parse_args()
    suffix = f"_seed{flags.seed}" if flags.seed else ""
    span, block = (pathlib.Path(flags.runs, f"nano{suffix}{arm}") for arm in ("", "-block"))
    run(span, flags, "span")
    if not block.exists():
        block.mkdir(parents=True)
        for part in ("corpus", "ict"):
            shutil.copytree(span / part, block / part)
    run(block, flags, "block")
    after = [np.load(per_example_file(Workdir.open(workdir), STATES[-1])) for workdir in (block, span)]
    paired = {}
    for key in PAIRED:
        difference = recall.mean(after[0][key] * 1.0 - after[1][key] * 1.0)
        paired[key] = {field: round(value, 5) for field, value in dataclasses.asdict(difference).items()}
        print(f"after REALM, block - span, {key}: {difference} (n {difference.n})")
    states = {
        arm: json.loads((workdir / "summary.json").read_text())["states"][STATES[-1]]
        for arm, workdir in (("span", span), ("block", block))
    }
    spread = {sampling: shares(Workdir.open(span), sampling) for sampling in ("span", "sentence", "block")}
    values = {"states": states, "block_minus_span": paired, "examples_by_spans_of_their_sentence": spread}
    print(write_result(f"sampling{suffix}", values, NOTE))


def run(workdir: pathlib.Path, flags: argparse.Namespace, sampling: str) -> None:
    """The whole command; a finished run stays as it is."""
    command = [sys.executable, "-m", "realm_jax", "run", f"--config={flags.config}", f"--workdir={workdir}"]
    subprocess.run([*command, f"--seed={flags.seed}", f"--pretrain.sampling={sampling}"], check=True)


def shares(workdir: Workdir, sampling: str) -> dict[str, float]:
    """Expected share of an epoch's examples whose sentence has 1, 2, … salient spans."""
    data, config = open_prepared(workdir), workdir.config
    policy = dataclasses.replace(config.pretrain, sampling=sampling)
    sentences = MaskedSentences(data.text, data.special, policy, config.corpus.heldout_fraction)
    weight, spans = np.empty(len(sentences.rows)), np.empty(len(sentences.rows), int)
    for number in range(len(sentences)):
        rows = sentences.rows_of(number)
        weight[rows] = 1 / len(rows)
    for place in range(len(spans)):
        segment, block, _, span = sentences.locate(place)
        of_block = segment.spans[int(block["span_start"]) : int(block["span_limit"])]
        spans[place] = (of_block["sentence"] == span["sentence"]).sum()
    names = [*map(str, range(1, MOST)), f"{MOST} or more"]
    totals = [weight[np.minimum(spans, MOST) == number].sum() for number in range(1, MOST + 1)]
    return {name: round(float(total / len(sentences)), 4) for name, total in zip(names, totals, strict=True)}


if __name__ == "__main__":
    main()
