"""Zero-shot passage recall on SQuAD-open questions: first weights, ICT, REALM, and REALM's minutes spent on more ICT.

    python benchmarks/squad_recall.py --corpus=PARAGRAPHS.jsonl.gz --questions=QUESTIONS.jsonl [--seeds 0 1 2]

Runs experiments/squad.py once for each seed, then the control: ICT alone, with as many further steps as fit into the
seconds that the indexes and REALM took. Writes benchmarks/results/squad_recall.json.
"""

import argparse
import json
import pathlib
import statistics
import subprocess
import sys

from report import write_result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", required=True, help="paragraphs as JSON lines")
    parser.add_argument("--questions", required=True, help="questions with gold_passage as JSON lines")
    parser.add_argument("--out", default="runs/squad_recall", help="folder of the runs; finished ones are reused")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    flags = parser.parse_args()
    seeds = {}
    for seed in flags.seeds:
        seeds[seed] = one_seed(flags, seed)
        print(f"seed {seed}: {json.dumps(seeds[seed])}", flush=True)
    arms = [arm for arm in seeds[flags.seeds[0]] if arm not in ("seconds", "ict_steps_of_control")]
    mean = {
        arm: {key: round(statistics.mean(seeds[s][arm][key] for s in seeds), 4) for key in seeds[flags.seeds[0]][arm]}
        for arm in arms
    }
    print(write_result("squad_recall", {"mean": mean, "seeds": seeds}))
    print(json.dumps(mean, indent=1))


def one_seed(flags: argparse.Namespace, seed: int) -> dict:
    """Recall of every arm for one seed, and the seconds of its parts."""
    run, control = (pathlib.Path(flags.out) / f"{name}-{seed}" for name in ("realm", "ict"))
    options = [f"--corpus={flags.corpus}", f"--seed={seed}"]
    command("run", "--config=experiments/squad.py", f"--workdir={run}", *options)
    seconds = json.loads((run / "seconds.json").read_text())
    ict_lines = [json.loads(line) for line in (run / "ict" / "metrics.jsonl").read_text().splitlines()]
    step_seconds = statistics.median(line["step_seconds"] for line in ict_lines)
    spent = sum(seconds[part] for part in ("first index", "pretrain", "last index"))
    steps = ict_lines[-1]["step"] + round(spent / step_seconds)
    config = control / "config.json"
    if config.exists():  # a control that was begun keeps its number of steps
        steps = json.loads(config.read_text())["ict"]["steps"]
    more = [f"--workdir={control}", f"--ict.steps={steps}", *options]
    command("ict", "--config=experiments/squad.py", *more)
    ours, theirs = recall(run, flags.questions), recall(control, flags.questions)
    return {**ours, "more ICT": theirs["after ICT"], "seconds": seconds, "ict_steps_of_control": steps}


def recall(workdir: pathlib.Path, questions: str) -> dict:
    """recall@k of each state of a run."""
    command("eval", f"--workdir={workdir}", "--only=recall", f"--dataset={questions}")
    file = workdir / "eval" / pathlib.Path(questions).name.split(".")[0] / "recall.json"
    table = json.loads(file.read_text())["recall"]
    return {state: {key: round(value["mean"], 4) for key, value in row.items()} for state, row in table.items()}


def command(name: str, *arguments: str) -> None:
    """Runs one of our commands; stops if it fails."""
    subprocess.run([sys.executable, "-m", "realm_jax", name, *arguments], check=True)


if __name__ == "__main__":
    main()
