"""Makes figures of what benchmarks/gpu_experiment.py measured, on any machine with the corpus and the questions.

    python benchmarks/gpu_scores.py --measured=measured.tar --corpus=CORPUS --questions=FOLDER

Recall of answers (and of SQuAD's gold passages) for each state of the retriever and for BM25, exact match of the
fine-tunings, and held-out masked sentences, with paired differences between arms on the same questions or sentences.
Writes benchmarks/results/gpu_experiment.json.
"""

import argparse
import dataclasses
import io
import itertools
import json
import pathlib
import sys
import tarfile

import numpy as np
from gpu_experiment import TESTS
from report import write_result

from realm_jax.data import run_tokenizer
from realm_jax.data.corpus import Corpus
from realm_jax.data.questions import questions as question_sets
from realm_jax.eval.baselines import bm25
from realm_jax.eval.gold import gold_records
from realm_jax.openqa.labels import AnswerFinder
from realm_jax.records import Question
from realm_jax.scores import bootstrap, recall

KS = (1, 5, 20, 100)
BM25 = "BM25"
NOTE = (
    "One seed, one run; no setting was chosen on these questions. The first weights, a sentence encoder, were trained "
    "by others on many pairs of texts, questions of NQ and SQuAD with their passages among them. The corpus is small: "
    "no figure compares with one on the whole of Wikipedia."
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measured", required=True, type=pathlib.Path)
    parser.add_argument("--corpus", required=True, type=pathlib.Path, help="folder of the run's corpus")
    parser.add_argument("--tokenizer", type=pathlib.Path, help="default: CORPUS/tokenizer.json")
    parser.add_argument("--questions", required=True, type=pathlib.Path)
    parser.add_argument("--name", default="gpu_experiment", help="of the result")
    parser.add_argument("--note", default="", help="how the run went, for the reader of the result")
    flags = parser.parse_args()
    files = unpack(flags.measured)
    record = json.loads(files["run.json"])
    corpus = Corpus.open(flags.corpus)
    if corpus.segment_hashes != record["segment_hashes"]:
        sys.exit(f"{flags.corpus} is not the corpus that {flags.measured} was measured on: pass its own")
    tokenizer = run_tokenizer.load(flags.tokenizer or flags.corpus / "tokenizer.json")
    values = {
        "retrieval": retrieval(files, corpus, AnswerFinder(corpus, tokenizer), flags.questions),
        "exact_match": exact_match(files),
        "heldout": held_out(files),
        "run": {key: value for key, value in record.items() if key != "segment_hashes"},
    }
    print(write_result(flags.name, values, f"{NOTE} {flags.note}".rstrip()))
    print(json.dumps({key: values[key] for key in ("retrieval", "exact_match", "heldout")}, indent=1))


def unpack(file: pathlib.Path) -> dict[str, bytes]:
    """The files of an archive by their names."""
    with tarfile.open(file) as archive:
        return {pathlib.Path(m.name).name: archive.extractfile(m).read() for m in archive.getmembers() if m.isfile()}


def arrays(files: dict[str, bytes], prefix: str) -> dict[str, dict[str, np.ndarray]]:
    """State -> arrays of the files `PREFIX_STATE.npz`."""
    names = [name for name in sorted(files) if name.startswith(f"{prefix}_")]
    return {
        name.removeprefix(f"{prefix}_").removesuffix(".npz"): dict(np.load(io.BytesIO(files[name]))) for name in names
    }


def retrieval(files: dict[str, bytes], corpus: Corpus, finder: AnswerFinder, folder: pathlib.Path) -> dict:
    """For each question set and what is wanted: recall@k of each state, and paired differences in it."""
    states, tables = arrays(files, "retrieved"), {}
    for name in TESTS:
        asked = question_sets.read(str(folder / f"{name}.jsonl"))
        found = {state: of_set[name] for state, of_set in states.items()}
        found[BM25] = bm25(corpus, [question.text for question in asked], max(KS))
        rows = [row for row, question in enumerate(asked) if question.answers]
        ranks = {s: answer_ranks(finder, [asked[r] for r in rows], blocks[rows]) for s, blocks in found.items()}
        tables[f"{name}, answers"] = recalls(ranks)
        gold = gold_records(corpus, asked).records
        rows = [row for row, records in enumerate(gold) if records]
        if rows:
            wanted = [gold[row] for row in rows]
            ranks = {s: passage_ranks(corpus, wanted, blocks[rows]) for s, blocks in found.items()}
            tables[f"{name}, gold passages"] = recalls(ranks)
    return tables


def answer_ranks(finder: AnswerFinder, asked: list[Question], blocks: np.ndarray) -> np.ndarray:
    """Rank of each question's first block with an answer; beyond all k where none has."""
    holds = finder.each_holds(asked, blocks, "wordpieces")
    return np.where(holds.any(-1), holds.argmax(-1), max(KS))


def passage_ranks(corpus: Corpus, wanted: list[list[int]], blocks: np.ndarray) -> np.ndarray:
    """Rank of each question's first wanted passage among the distinct ones that were found."""
    of_block = corpus.record_of_block
    passages = recall.first_distinct(np.where(blocks >= 0, of_block[blocks], -1), blocks.shape[1])
    hits = [np.flatnonzero(np.isin(row, records)) for row, records in zip(passages, wanted, strict=True)]
    return np.array([int(hit[0]) if len(hit) else max(KS) for hit in hits])


def recalls(ranks: dict[str, np.ndarray]) -> dict:
    """recall@k by state, and what each arm has more than the one before it."""
    table: dict = {"n": len(next(iter(ranks.values()))), "recall": {}, "paired": {}}
    for state, of_state in ranks.items():
        table["recall"][state] = {f"recall@{k}": interval(of_state < k) for k in KS}
    last = max((state for state in ranks if state.startswith("realm-")), default="")
    for a, b in ((last, "ict"), (last, "first"), ("ict", "first"), (last, BM25)):
        if a in ranks and b in ranks:
            table["paired"][f"{a} - {b}"] = {f"recall@{k}": paired(ranks[a] < k, ranks[b] < k) for k in KS}
    return table


def exact_match(files: dict[str, bytes]) -> dict:
    """Exact match of each fine-tuning on NQ's test questions, recall of its retriever, and paired differences."""
    arms = {
        arm: json.loads(files[f"answers_{arm}.json"])
        for arm in ("realm", "frozen", "ict")
        if f"answers_{arm}.json" in files
    }
    table: dict = {"arms": {}, "paired": {}}
    correct = {arm: np.array([line["correct"] for line in of["answers"]]) for arm, of in arms.items()}
    for arm, of in arms.items():
        ranks = np.array([line["rank"] for line in of["answers"]])
        table["arms"][arm] = {
            "n": len(ranks),
            "exact_match": interval(correct[arm]),
            "reader_oracle": interval(np.array([line["oracle"] for line in of["answers"]])),
            "fine_tuned_recall@5": interval((ranks >= 0) & (ranks < 5)),
            "development": of["evaluations"],
        }
    for a, b in itertools.combinations(arms, 2):
        table["paired"][f"{a} - {b}"] = paired(correct[a], correct[b])
    return table


def held_out(files: dict[str, bytes]) -> dict:
    """Means over held-out sentences by state, and paired differences in what two states share."""
    states = arrays(files, "heldout")
    table: dict = {"states": {}, "paired": {}}
    for state, values in states.items():
        table["states"][state] = {key: mean(value) for key, value in values.items()}
    for a, b in (("realm", "frozen"), ("realm", "ict")):
        if a in states and b in states:
            shared = [key for key in states[a] if key in states[b]]
            table["paired"][f"{a} - {b}"] = {key: mean(states[a][key] - 1.0 * states[b][key]) for key in shared}
    return table


def interval(values: np.ndarray) -> dict:
    return _rounded(bootstrap.interval(values))


def paired(a: np.ndarray, b: np.ndarray) -> dict:
    return _rounded(bootstrap.paired(a, b))


def mean(values: np.ndarray) -> dict:
    return _rounded(recall.mean(values))


def _rounded(value) -> dict:
    return {key: round(number, 5) for key, number in dataclasses.asdict(value).items()}


if __name__ == "__main__":
    main()
