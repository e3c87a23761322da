"""The embedded default beside its control: the same run with the retriever frozen as ICT left it.

    python benchmarks/nano.py [--workdir=runs/nano] [--control=runs/nano-frozen]

Both start from the same ICT and encoder warm-up and take the same steps on the same masked sentences. Writes
benchmarks/results/nano.json: both summaries, and paired differences on the same held-out sentences. Runs that are
finished are only evaluated.
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

from realm_jax.eval.summary import STATES, per_example_file
from realm_jax.scores import recall
from realm_jax.workdir import Workdir

NOTE = (
    "One seed; the retriever's rate and the warm-up were chosen in five shorter trials that were judged on these same "
    "held-out sentences."
)
PAIRED = ("answer_retrieved", "plain_recall@1", "hard_recall@1", "loss_retrieved", "loss_null", "utility")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", default="runs/nano")
    parser.add_argument("--control", default="runs/nano-frozen")
    flags = parser.parse_args()
    realm, frozen = pathlib.Path(flags.workdir), pathlib.Path(flags.control)
    run(realm)
    if not frozen.exists():
        frozen.mkdir(parents=True)
        for part in ("corpus", "ict", "warmup"):
            shutil.copytree(realm / part, frozen / part)
    run(frozen, "--pretrain.train_retriever=False", "--pretrain.index_refresh_every=0")
    after = [np.load(per_example_file(Workdir.open(w), STATES[-1])) for w in (realm, frozen)]
    paired = {}
    for name in PAIRED:
        difference = recall.mean(after[0][name] * 1.0 - after[1][name] * 1.0)
        paired[name] = {key: round(value, 5) for key, value in dataclasses.asdict(difference).items()}
        print(f"after REALM - after REALM with the retriever frozen, {name}: {difference} (n {difference.n})")
    summaries = {
        name: json.loads((w / "summary.json").read_text()) for name, w in (("realm", realm), ("frozen", frozen))
    }
    print(write_result("nano", {**summaries, "realm_minus_frozen": paired}, NOTE))


def run(workdir: pathlib.Path, *options: str) -> None:
    """The whole command, which only evaluates what is finished."""
    command = [sys.executable, "-m", "realm_jax.run", "--config=experiments/nano.py", f"--workdir={workdir}", *options]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
