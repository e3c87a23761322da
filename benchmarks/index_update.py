"""Do answers follow the texts? Table 4 of the paper, with many questions: the model stays, the documents change.

    python benchmarks/index_update.py --workdir=runs/ablations/seed-0/realm --finetuning=realm [--count=100]

Takes cloze questions that a fine-tuned run answers rightly, replaces the answer in the question's own article by the
answer of another question, exchanges these articles with `realm update`, and asks again. The run is
copied before; nothing of it is trained. Writes benchmarks/results/index_update.json.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

from report import write_result

from realm_jax.data.sources import sources
from realm_jax.workdir import Workdir

LINKED_BYTES = 1 << 20  # smaller files may be appended to


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", required=True)
    parser.add_argument("--finetuning", required=True)
    parser.add_argument("--count", type=int, default=100)
    flags = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=pathlib.Path(flags.workdir).resolve().parent) as temporary:
        copy, folder = pathlib.Path(temporary) / "run", pathlib.Path(temporary)
        shutil.copytree(flags.workdir, copy, copy_function=link_or_copy)
        answer = ["eval", f"--workdir={copy}", f"--finetuning={flags.finetuning}"]
        run(*answer, "--dataset=cloze")
        newest = max(copy.glob("eval/*/predictions.jsonl"), key=lambda file: file.stat().st_mtime)
        exchanged = exchange(Workdir.open(copy), read_lines(newest), flags.count)
        old, new = folder / "old.jsonl", folder / "new.jsonl"
        write_lines(old, [{"id": e["id"], "question": e["question"], "answers": [e["old"]]} for e in exchanged])
        write_lines(new, [{"id": e["id"], "question": e["question"], "answers": [e["new"]]} for e in exchanged])
        before = {name: exact_match(copy, answer, file) for name, file in (("old", old), ("new", new))}
        write_lines(folder / "documents.jsonl", [e["record"] for e in exchanged])
        ids = ",".join(e["record"]["id"] for e in exchanged)
        started = time.perf_counter()
        update = ["update", f"--workdir={copy}", f"--add={folder / 'documents.jsonl'}"]
        printed = run(*update, f"--delete={ids}")
        seconds = time.perf_counter() - started
        blocks = int(re.search(r"records, ([\d,]+) blocks", printed).group(1).replace(",", ""))
        searchable = float(re.search(r"searchable after ([\d.]+) s", printed).group(1))
        after = {name: exact_match(copy, answer, file) for name, file in (("old", old), ("new", new))}
    values = {
        "questions": len(exchanged),
        "exact_match": {"before": before, "after": after},
        "blocks": blocks,
        "searchable_after_s": searchable,
        "whole_command_s": round(seconds, 1),
        "examples": [{key: e[key] for key in ("question", "old", "new")} for e in exchanged[:3]],
    }
    print(json.dumps(values, indent=1, ensure_ascii=False))
    print(
        write_result(
            "index_update", values, "`old`, `new`: exact match against the answer of the old and the new text."
        )
    )


def exchange(workdir: Workdir, predictions: list[dict], count: int) -> list[dict]:
    """Up to `count` questions, one of an article, with the article as it is to become."""
    articles = {record.id: record for record in sources.read(workdir.config.corpus.knowledge).records()}
    right = [p for p in predictions if p["is_correct"] and p["block_rank"] == 0]
    chosen, used = [], set()
    for i, prediction in enumerate(right):
        record = articles[prediction["blocks"][0]["source_id"]]
        old = prediction["answers"][0]
        new = next(
            p["answers"][0]
            for p in right[i + 1 :] + right[:i]
            if kind(p["answers"][0]) == kind(old) and p["answers"][0] != old
        )
        original = prediction["question"].replace("[MASK]", old)
        if record.id in used or original not in record.text or new in record.text:
            continue
        used.add(record.id)
        text = record.text.replace(old, new)
        chosen.append(
            {
                "id": prediction["id"],
                "question": prediction["question"],
                "old": old,
                "new": new,
                "record": {"id": record.id, "title": record.title, "text": text},
            }
        )
        if len(chosen) == count:
            break
    return chosen


def kind(answer: str) -> str:
    """A name of one word, of several, or something with a digit."""
    return "digits" if re.search(r"\d", answer) else "words" if " " in answer else "word"


def exact_match(copy: pathlib.Path, answer: list[str], questions: pathlib.Path) -> float:
    """Of the run on a file of questions."""
    run(*answer, f"--dataset={questions}")
    newest = max(copy.glob("eval/*/predictions.jsonl"), key=lambda file: file.stat().st_mtime)
    lines = read_lines(newest)
    return round(sum(line["is_correct"] for line in lines) / len(lines), 4)


def run(command: str, *options: str) -> str:
    """What a command of ours printed."""
    done = subprocess.run(
        [sys.executable, "-m", "realm_jax", command, *options], check=True, stdout=subprocess.PIPE, text=True
    )
    return done.stdout


def link_or_copy(source: str, target: str) -> None:
    if os.path.getsize(source) > LINKED_BYTES:
        os.link(source, target)
    else:
        shutil.copy2(source, target)


def read_lines(file: pathlib.Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def write_lines(file: pathlib.Path, values: list[dict]) -> None:
    file.write_text("".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values))


if __name__ == "__main__":
    main()
