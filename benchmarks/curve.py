"""Curves of a long training: what the retriever finds and the encoder reads, every so many steps, beside two controls.

    python benchmarks/curve.py --questions=FOLDER --workdir=runs/curve --config=FILE --corpus=TEXTS
        [--arms=realm,frozen,ict] [OTHER FLAGS OF realm run]

    realm    REALM, from the retriever after ICT (`--ict.steps`)
    frozen   the same steps with the retriever as ICT left it
    ict      ICT from the first weights for as many steps

At each checkpoint (`--pretrain.checkpoint_every`) training pauses, and the state is judged on held-out masked sentences
(`realm_jax/eval/heldout.py`) and on development questions without fine-tuning: the rank of the first block that has an
answer, and for the masked sentences, whose own block does not count, the rank of the first that has the span (the
supply of answers). Nothing is chosen here on test questions. The same command goes on where it was, in any number of
starts, and at low priority; what was judged stays in WORKDIR/judged, one file for each state. Each end of an arm, and
`--arms=` alone, writes benchmarks/results/NAME.json, where the arms that it lacks stay as they were.
"""

import argparse
import dataclasses
import functools
import json
import os
import pathlib
from collections.abc import Callable

import jax
import numpy as np
from depends import RESULTS
from gpu_scores import answer_ranks
from report import write_result

from realm_jax import console, huge_pages, parallel, signals
from realm_jax.commands import cli
from realm_jax.data.prepare import RunData
from realm_jax.data.questions import questions as question_sets
from realm_jax.eval import heldout
from realm_jax.eval.baselines import bm25
from realm_jax.index.answer_block import has_span
from realm_jax.index.embed_blocks import TowerEmbedder
from realm_jax.index.index_builder import IndexBuilder
from realm_jax.index.loaded_index import LoadedIndex, exact_index
from realm_jax.index.own_versions import OwnVersions
from realm_jax.index.probe import embed_queries
from realm_jax.index.source_block import drop_source
from realm_jax.index.store import IndexStore
from realm_jax.openqa.labels import AnswerFinder
from realm_jax.openqa.retriever import Retriever
from realm_jax.records import Question
from realm_jax.scores import recall
from realm_jax.training import loop, phases
from realm_jax.training.ict_task import IctTask
from realm_jax.training.pretrain_task import PretrainTask
from realm_jax.workdir import Workdir

SETS = ("nq_open_dev", "squad_open_train", "webquestions_train", "curatedtrec_train")
ARMS = ("realm", "frozen", "ict")
MOST_QUESTIONS = 2000  # of each set, the first
KS = (1, 5, 20)
SUPPLY_KS, SUPPLY_SENTENCES = (5, 20, 50, 100), 1024
NICE = 10
NOTE = "Development questions, without fine-tuning. One seed. Intervals are half of 95%, over sentences or questions."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", required=True, type=pathlib.Path, help=f"folder of {', '.join(SETS)} as .jsonl")
    parser.add_argument("--arms", default=",".join(ARMS), help="with commas")
    parser.add_argument("--until", type=int, default=0, help="stop each arm at the checkpoint of this step; 0: the end")
    parser.add_argument("--name", default="curve", help="of the result; empty for none")
    parser.add_argument("--note", default="", help="how the run was made, for the reader of the result")
    flags, of_run = parser.parse_known_args()
    os.nice(NICE)
    console.set_up()
    parallel.set_up_compilation_cache()
    curve = Curve(cli.new_workdir(__doc__, of_run), flags.questions, flags.until)
    for arm in flags.arms.split(","):
        if arm:
            curve.train(arm)
        if flags.name:
            values = with_earlier_arms(curve.values(), RESULTS / f"{flags.name}.json")
            print(write_result(flags.name, values, f"{NOTE} {flags.note}".rstrip()), flush=True)


class _Judged:
    """For a task: judges each state whose checkpoint is due; not one that a stop saves."""

    judge, every, until = None, 0, 0

    def is_over(self, step: int) -> bool:
        return 0 < self.until <= step

    def evaluates_at(self, step: int) -> bool:
        return step % self.every == 0

    def evaluate(self, step: int, params: dict) -> dict[str, float]:
        self.judge(step, jax.device_get(parallel.unreplicate(params)))
        return {}


class _Realm(_Judged, PretrainTask):
    """Pre-training that is judged."""


class _Ict(_Judged, IctTask):
    """ICT that is judged."""


class Curve:
    """The arms over one workdir."""

    def __init__(self, workdir: Workdir, questions: pathlib.Path, until: int = 0):
        self.workdir, self.config, self.until = workdir, workdir.config, until
        self.data: RunData = phases.prepare_run(workdir)
        self.folder = pathlib.Path(os.fspath(workdir.path)) / "judged"
        self.folder.mkdir(exist_ok=True)
        read = {name: question_sets.read(str(questions / f"{name}.jsonl")) for name in SETS}
        self.sets = {name: asked[:MOST_QUESTIONS] for name, asked in read.items()}
        self.finder = AnswerFinder(self.data.knowledge, self.data.tokenizer)
        self.chosen = heldout.heldout_set(self.config, self.data)
        self.sentences = jax.tree.map(lambda array: array[:SUPPLY_SENTENCES], self.chosen.queries)
        self._index: LoadedIndex | None = None

    def train(self, arm: str) -> None:
        """Trains an arm to its end; all begin with the ICT that REALM starts from."""
        self._keep("bm25", self._bm25)
        first, config = phases.first_params(self.workdir), self.config
        if not self.workdir.is_done("ict"):
            loop.run(IctTask(config, self.data, {"embedder": first["embedder"]}), self.workdir.phase("ict"))
            self.workdir.mark_done("ict", config.ict.steps)
        warm, self._index = phases.warm_params(self.workdir), None  # which is another arm's
        self._judge(arm, 0, first if arm == "ict" else warm)
        if arm == "ict":
            settings = dataclasses.replace(
                config.ict, steps=config.pretrain.steps, checkpoint_every=config.pretrain.checkpoint_every
            )
            task = _Ict(dataclasses.replace(config, ict=settings), self.data, {"embedder": first["embedder"]})
        else:
            task = self._pretraining(arm, warm)
        task.every, task.until = config.pretrain.checkpoint_every, self.until
        task.judge = lambda step, params: self._judge(arm, step, params)
        loop.run(task, self.workdir.phase(f"curve_{arm}"))

    def _pretraining(self, arm: str, warm: dict) -> _Realm:
        frozen = dataclasses.replace(self.config.pretrain, train_retriever=False, index_refresh_every=0)
        config = self.config if arm == "realm" else dataclasses.replace(self.config, pretrain=frozen)
        store = IndexStore(self.workdir.path / f"index_{arm}")
        builder = IndexBuilder(config, self.data, store, arm)
        if store.latest() is None:
            builder.build(0, warm["embedder"])
        source = {"phase": "ict", "step": config.ict.steps}
        own = OwnVersions(builder, self.workdir.phase(f"curve_{arm}"), warm["embedder"], source)
        return _Realm(config, self.data, store, warm, own if arm == "realm" else None)

    def _judge(self, arm: str, step: int, params: dict) -> None:
        name = f"{arm}-{step:07}"

        def judged() -> dict[str, np.ndarray]:
            if arm != "frozen" or self._index is None:  # whose retriever stays as it is
                self._index = exact_index(self.config, self.data.knowledge, params["embedder"], name)
            index = self._index
            values, _ = heldout.evaluate(self.config, self.data, self.chosen, params, name, index)
            length = self.config.pretrain.query_len_tokens
            retriever = Retriever(self.config, self.data, params["embedder"], index, length)
            values |= self._ranks(lambda asked: retriever.search(retriever.encode(asked)[1], max(KS))[0])
            of_query = TowerEmbedder(self.config, params["embedder"], "query")
            query_emb = embed_queries(of_query, self.sentences.query)
            return values | self._supply(index.search.search(query_emb, max(SUPPLY_KS) + 1)[0])

        self._keep(name, judged)

    def _bm25(self) -> dict[str, np.ndarray]:
        """What BM25 finds, for masked sentences by the words that are left."""
        search, tokenizer = functools.partial(bm25, self.data.knowledge), self.data.tokenizer
        values = self._ranks(lambda asked: search([question.text for question in asked], max(KS)))
        texts = tokenizer.decode_batch(self.sentences.query.ids.tolist())  # without [MASK] and the other special ones
        return values | self._supply(search(texts, max(SUPPLY_KS) + 1))

    def _supply(self, found: np.ndarray) -> dict[str, np.ndarray]:
        """For each masked sentence, the rank of the first block with the span, its own block aside."""
        others = drop_source(found.astype(np.int32), self.sentences.source_hash, self.data.knowledge)[:, :-1]
        holds = has_span(others, self.sentences, self.data.knowledge)
        return {"span_rank": np.where(holds.any(-1), holds.argmax(-1), max(SUPPLY_KS))}

    def _ranks(self, find: Callable[[list[Question]], np.ndarray]) -> dict[str, np.ndarray]:
        """By set, the rank of the first block with an answer for each question."""
        return {f"rank_{name}": answer_ranks(self.finder, asked, find(asked)) for name, asked in self.sets.items()}

    def _keep(self, name: str, make: Callable[[], dict[str, np.ndarray]]) -> None:
        """Writes the values of each example to a file, whole or not at all, unless it is there."""
        file = self.folder / f"{name}.npz"
        if not file.exists():
            partial = self.folder / f".{name}.npz"
            np.savez_compressed(partial, **make())
            partial.rename(file)

    def values(self) -> dict:
        """Means by arm and step, and what each state has more than the first of its arm, on the same questions."""
        name = pathlib.Path(self.config.corpus.knowledge).name
        corpus = dataclasses.replace(self.config.corpus, knowledge=name)  # not where it lies
        files = sorted(self.folder.glob("*-*.npz"))
        states = {file.stem: measures(dict(np.load(file))) for file in files}
        rows: dict[str, list[dict]] = {}
        for name, state in states.items():
            arm, step = name.rsplit("-", 1)
            first = states[f"{arm}-{0:07}"]
            more = {key: plain(state[key] * 1.0 - first[key]) for key in state if key.startswith("recall")}
            means = {key: plain(value) for key, value in state.items()}
            rows.setdefault(arm, []).append({"step": int(step), **means, "more than at first": more})
        return {
            "arms": rows,
            "bm25": {key: plain(value) for key, value in measures(dict(np.load(self.folder / "bm25.npz"))).items()},
            "blocks": self.data.knowledge.num_blocks,
            "config": dataclasses.asdict(dataclasses.replace(self.config, corpus=corpus)),
        }


def with_earlier_arms(values: dict, file: pathlib.Path) -> dict:
    """With the arms of an earlier result of the same settings, which may have been trained on another machine."""
    earlier = json.loads(file.read_text())["values"] if file.exists() else {}
    ours = json.loads(json.dumps(values))
    if any(earlier.get(key) != ours[key] for key in ("config", "blocks", "bm25")):
        return values
    return {**values, "arms": earlier["arms"] | values["arms"]}


def plain(values: np.ndarray) -> dict:
    """Mean, half of the 95% interval and count."""
    return {key: round(value, 5) for key, value in dataclasses.asdict(recall.mean(values)).items()}


def measures(of: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What is drawn, one value for each sentence or question."""
    ranks = {key.removeprefix("rank_"): of.pop(key) for key in list(of) if key.startswith("rank_")}
    found = {f"recall@{k}, {name}": of_set < k for name, of_set in ranks.items() for k in KS}
    span_rank = of.pop("span_rank")
    found |= {f"span among the first {k}": span_rank < k for k in SUPPLY_KS}
    if "utility" in of:
        has = of["answer_retrieved"][: len(of["utility"])]
        found |= {"utility with the answer": of["utility"][has], "utility without": of["utility"][~has]}
        found["right with blocks alone"] = of["right_retrieved"] - of["right_null"]  # less the reverse
    return of | found


if __name__ == "__main__":
    huge_pages.ensure()
    with signals.ending():
        cli.run(main)  # a signal is one line
