"""The embedded default beside its control: the same run with the retriever frozen as ICT left it.

    python benchmarks/nano.py [--seed=0]

Both start from the same ICT and take the same steps on the same masked sentences. Writes
benchmarks/results/nano.json (nano_seed1.json for --seed=1): both summaries, and paired differences on the same held-out
sentences. The runs are those of `make pretrain` (runs/nano) and runs/nano-frozen; finished ones are only evaluated.
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
    "One seed; the retriever's rate and wait were chosen in trials that were judged on these same held-out sentences."
)
PAIRED = ("answer_retrieved", "plain_recall@1", "hard_recall@1", "loss_retrieved", "loss_null", "utility")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    seed = parser.parse_args().seed
    name = f"nano_seed{seed}" if seed else "nano"
    realm, frozen = pathlib.Path("runs", name), pathlib.Path("runs", f"{name}-frozen")
    run(realm, f"--seed={seed}")
    if not frozen.exists():
        frozen.mkdir(parents=True)
        for part in ("corpus", "ict"):
            shutil.copytree(realm / part, frozen / part)
    run(frozen, f"--seed={seed}", "--pretrain.train_retriever=False", "--pretrain.index_refresh_every=0")
    after = [np.load(per_example_file(Workdir.open(w), STATES[-1])) for w in (realm, frozen)]
    paired = {}
    for key in PAIRED:
        difference = recall.mean(after[0][key] * 1.0 - after[1][key] * 1.0)
        paired[key] = {field: round(value, 5) for field, value in dataclasses.asdict(difference).items()}
        print(f"after REALM - after REALM with the retriever frozen, {key}: {difference} (n {difference.n})")
    summaries = {"realm": measured(realm), "frozen": measured(frozen)}
    print(write_result(name, {**summaries, "realm_minus_frozen": paired}, NOTE))


def measured(workdir: pathlib.Path) -> dict:
    """The summary, with the seconds of all phases: the evaluation, which writes it, does not know its own."""
    seconds = json.loads((workdir / "seconds.json").read_text())
    return json.loads((workdir / "summary.json").read_text()) | {"phase_seconds": seconds}


def run(workdir: pathlib.Path, *options: str) -> None:
    """The whole command; a finished run stays as it is."""
    command = [
        sys.executable,
        "-m",
        "realm_jax",
        "run",
        "--config=experiments/nano.py",
        f"--workdir={workdir}",
        *options,
    ]
    subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
