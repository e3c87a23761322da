"""What the host does for a training step, alone and on one core: masked queries, candidates, packing, labels and spans.

    python benchmarks/host.py --questions=FILE [--corpus=asset:wiki-leads] [--name=host]

Pre-training: batches of 512 masked sentences, each with 7 blocks of at most 288 wordpieces drawn at random.
Fine-tuning: batches of 16 questions, each with the 5,000 blocks that BM25 finds for it (filled up with random ones), of
which 5 are read. Every batch is timed once, so that all questions are new; its figure is the median. Most blocks were
met before; the slowest batch, in which most are met for the second time, stands apart. Writes
benchmarks/results/host.json.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tyro
from report import write_result

from realm_jax import huge_pages
from realm_jax.config import Config, CorpusConfig, PretrainConfig
from realm_jax.data.assembly import with_candidates
from realm_jax.data.pipeline import Examples, MaskedSentences
from realm_jax.data.prepare import RunData, prepare
from realm_jax.data.questions import questions
from realm_jax.eval.baselines import bm25
from realm_jax.eval.bm25_index import build_beside
from realm_jax.openqa.labels import AnswerFinder
from realm_jax.records import Question
from realm_jax.training.room import Room
from realm_jax.workdir import Workdir

QUERIES, CANDIDATES = 512, 8
ASKED, BEAM, READ, WIDTH = 16, 5000, 5, 10


@dataclass(frozen=True)
class _Flags:
    questions: str
    """File of questions with their answers."""
    corpus: str = "asset:wiki-leads"
    """What the blocks are cut from, as --corpus of `realm run`."""
    batches: int = 24
    """How many of each kind are timed."""
    name: str = "host"
    """Of the result; empty for none."""
    note: str = ""
    """What else the machine did."""


def main() -> None:
    flags = tyro.cli(_Flags, description=__doc__)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-1:])  # before there are threads, which inherit it
    config = Config(
        init="asset:bert-tiny",
        corpus=CorpusConfig(knowledge=flags.corpus),
        pretrain=PretrainConfig(batch_size=QUERIES, num_candidates=CANDIDATES),
    )
    with tempfile.TemporaryDirectory() as folder:
        data = prepare(Workdir.create(os.path.join(folder, "run"), config))
        asked = [question for question in questions.read(flags.questions) if question.answers]
        values = {
            "blocks": data.knowledge.num_blocks,
            "mean block length in wordpieces": round(float(data.knowledge.lengths.mean()), 1),
            "load before": round(os.getloadavg()[0], 2),
            "pre-training": pretraining(config, data, flags.batches),
            "fine-tuning": finetuning(data, asked[: ASKED * flags.batches]),
        }
    print("\n".join(f"{key}: {value}" for key, value in values.items()))
    if flags.name:
        print(write_result(flags.name, values, flags.note))


class Clock:
    """Calls functions, and keeps how many milliseconds each call took, by a name."""

    def __init__(self) -> None:
        self.ms: dict[str, list[float]] = {}

    def __call__(self, name: str, work: Callable, *arguments: Any) -> Any:
        started = time.perf_counter()
        made = work(*arguments)
        self.ms.setdefault(name, []).append(1e3 * (time.perf_counter() - started))
        return made

    def medians(self) -> dict[str, float]:
        """The median of each name's calls."""
        return {f"{name}, ms": round(statistics.median(of), 2) for name, of in self.ms.items()}


def pretraining(config: Config, data: RunData, batches: int) -> dict[str, float]:
    """Milliseconds of each part of a batch, and masked queries a second."""
    sentences = MaskedSentences(data.text, data.special, config.pretrain, config.corpus.heldout_fraction)
    examples = Examples(len(sentences), sentences.example, config.seed)
    room, rng, clock = Room(config, 1, {}, {}), np.random.default_rng(0), Clock()
    for number in range(batches):
        drawn = rng.integers(data.knowledge.num_blocks, size=(QUERIES, CANDIDATES - 1))
        queries = clock("masked queries", examples.batch, number, QUERIES)
        joined = clock("with candidates", with_candidates, queries, drawn, data.knowledge, 1)
        clock("packed", room.pack, joined)
    a_second = 1e3 * QUERIES / statistics.median(clock.ms["masked queries"])
    return {"masked queries a second": round(a_second), **clock.medians()}


def finetuning(data: RunData, asked: list[Question]) -> dict[str, float]:
    """Milliseconds of a batch's labels, by rule, and of its spans."""
    corpus, rng, clock = data.knowledge, np.random.default_rng(1), Clock()
    build_beside(corpus)
    beams = bm25(corpus, [question.text for question in asked], min(BEAM, corpus.num_blocks))
    beams = np.where(beams < 0, rng.integers(corpus.num_blocks, size=beams.shape), beams)
    found: dict[str, float] = {}
    for rule in ("substring", "wordpieces"):
        finder, right = AnswerFinder(corpus, data.tokenizer), []
        for at in range(0, len(asked), ASKED):
            batch = asked[at : at + ASKED], beams[at : at + ASKED]
            right.append(clock(f"labels, {rule}", finder.each_holds, *batch, rule))
            clock("spans", spans, finder, *batch)
        found[f"labels, {rule}, slowest batch, ms"] = round(max(clock.ms[f"labels, {rule}"]), 2)
        found[f"right blocks, {rule}, share"] = round(float(np.concatenate(right).mean()), 4)
    return clock.medians() | found


def spans(finder: AnswerFinder, asked: list[Question], beams: np.ndarray) -> list[np.ndarray]:
    """Where the answers stand in the blocks that are read."""
    return [finder.spans(question, beam[:READ], WIDTH) for question, beam in zip(asked, beams, strict=True)]


if __name__ == "__main__":
    huge_pages.ensure()
    main()
