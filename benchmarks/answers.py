"""Exact match and retrieval of fine-tuned runs beside every floor and baseline, each from one command.

    python benchmarks/answers.py NAME --workdir=W --test=QUESTIONS.jsonl FINETUNING[=QUESTIONS.jsonl] …

Evaluates the named fine-tunings of a run (`realm eval --baseline=…`) and keeps their figures in
benchmarks/results/NAME.json, with what the run's parts took. Where several answered the same questions, the first minus
each other, paired by question: exact match, and recall@5 of the retriever before fine-tuning.
"""

import argparse
import dataclasses
import json
import pathlib
import subprocess
import sys

from report import write_result

from realm_jax.eval.question_answering import ZERO_SHOT
from realm_jax.scores.bootstrap import paired


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", help="of the result")
    parser.add_argument("finetunings", nargs="+", help="names, each with its own questions or --test")
    parser.add_argument("--workdir", required=True, type=pathlib.Path)
    parser.add_argument("--test", help="questions of those that name none")
    parser.add_argument("--note", default="", help="how the run was made, for the reader of the result")
    parser.add_argument("--baseline", default="bm25,random,ict,pretrained,frequent,closed_book")
    flags = parser.parse_args()
    rows, by_question, first = {}, {}, {}
    for item in flags.finetunings:
        name, _, questions = item.partition("=")
        questions = questions or flags.test
        rows[name], by_question[name] = evaluate(flags, name, questions)
        other = first.setdefault(questions, name)
        if other != name:
            rows[other][f"minus {name}"] = {
                figure: dataclasses.asdict(paired(ours, by_question[name][figure]))
                for figure, ours in by_question[other].items()
            }
    seconds = (
        json.loads((flags.workdir / "seconds.json").read_text()) if (flags.workdir / "seconds.json").exists() else {}
    )
    print(write_result(flags.name, {"finetunings": rows, "pretraining_seconds": seconds}, flags.note))
    print(json.dumps(rows, indent=1))


def evaluate(flags: argparse.Namespace, name: str, questions: str) -> tuple[dict, dict[str, list[int]]]:
    """Figures of one fine-tuning, and those that are compared for each question: 1 if right or found, else 0."""
    is_regex = '"answer_regex"' in pathlib.Path(questions).read_text()[:10_000]
    baseline = flags.baseline.replace("frequent,", "") if is_regex else flags.baseline
    command = [sys.executable, "-m", "realm_jax", "eval", f"--workdir={flags.workdir}", f"--dataset={questions}"]
    subprocess.run([*command, f"--finetuning={name}", f"--baseline={baseline}"], check=True)
    folder = flags.workdir / "eval" / f"{pathlib.Path(questions).name.split('.')[0]}.{name}"
    results = json.loads((folder / "results.json").read_text())
    lines = [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
    finetuning = flags.workdir / "finetune" / name
    metrics = [json.loads(line) for line in (finetuning / "metrics.jsonl").read_text().splitlines()]
    figures = {
        "questions": results["questions"],
        "corpus": pathlib.Path(results["facts"]["corpus"]).name,
        "blocks": results["facts"]["blocks"],
        "systems": {
            system: {key: of[key] for key in ("exact_match", "reader_oracle")}
            for system, of in results["systems"].items()
        },
        "recall": {
            state: {k: round(mean["mean"], 4) for k, mean in row.items()} for state, row in results["recall"].items()
        },
        "finetuning_steps": metrics[-1]["step"],
        "finetuning_seconds": round(metrics[-1]["time"] - metrics[0]["time"]),
        "evaluation_seconds": results["facts"]["seconds"],
    }
    ranks = json.loads((folder / "answer_ranks.json").read_text())[ZERO_SHOT]
    return figures, {
        "exact_match": [int(line["is_correct"]) for line in lines],
        "recall@5": [int(0 <= rank < 5) for rank in ranks],
    }


if __name__ == "__main__":
    main()
