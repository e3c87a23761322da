"""Zero-shot retrieval of every state of a run, and of BM25, in one table.

Questions that name their passage count distinct passages, each as its best block, whatever the length of blocks; for
others a block with an answer is right. Without questions, held-out sentences are the queries and their own block is
right: plain, and hard, with a salient span masked and the title's words taken out.
"""

import dataclasses

import numpy as np

from realm_jax.config import ConfigError
from realm_jax.data.corpus import Corpus
from realm_jax.data.prepare import RunData, open_prepared
from realm_jax.eval.baselines import bm25
from realm_jax.index.embed_blocks import TowerEmbedder
from realm_jax.index.exact_index import exact_index
from realm_jax.index.probe import embed_queries, make_probe, probe_recall
from realm_jax.openqa.inputs import question_tokens
from realm_jax.openqa.labels import AnswerFinder
from realm_jax.scores import recall
from realm_jax.training import phases
from realm_jax.types import Question
from realm_jax.workdir import Workdir

KS = (1, 5, 20, 100)


def embedder_states(workdir: Workdir) -> dict[str, dict]:
    """Embedder parameters of every finished phase, in order."""
    first = phases.first_params(workdir, ("embedder",))["embedder"]
    states = {"first weights": first}
    for name, phase in (("after ICT", "ict"), ("after REALM", "pretrain")):
        if workdir.is_done(phase):
            states[name] = phases.last_params(workdir, phase, {"embedder": first})["embedder"]
    return states


def question_recall(workdir: Workdir, questions: list[Question]) -> dict[str, dict[str, recall.Mean]]:
    """recall@k of each state and of BM25.

    Where questions name a `gold_passage` of this corpus, only they count and that passage is wanted; else a block with
    an answer is.

    Raises:
        ConfigError: there is neither a gold passage of this corpus nor an answer.
    """
    data = open_prepared(workdir)
    judge = _judge(data, questions)
    tokens = question_tokens(judge.questions, data.tokenizer, data.special, workdir.config.pretrain.query_len_tokens)
    table = {}
    for name, params in embedder_states(workdir).items():
        search, _ = exact_index(workdir.config, data.knowledge, params, name)
        query_emb = embed_queries(TowerEmbedder(workdir.config, params, "query"), tokens)
        parts = [search.search(part, judge.depth)[0] for part in np.array_split(query_emb, _parts(query_emb))]
        table[name] = judge(np.concatenate(parts))
    table["BM25"] = judge(bm25(data.knowledge, [q.text for q in judge.questions], judge.depth))
    return table


def heldout_recall(workdir: Workdir) -> dict[str, dict[str, recall.Mean]]:
    """Plain and hard recall of held-out sentences for each state. Raises ConfigError if there is no such sentence."""
    data = open_prepared(workdir)
    probe = make_probe(data.knowledge, data.special, workdir.config, workdir.config.pretrain.recall_examples)
    if probe is None:
        raise ConfigError(f"{workdir.path}: no held-out sentences: pass --dataset=FILE.jsonl")
    table = {}
    for name, params in embedder_states(workdir).items():
        search, _ = exact_index(workdir.config, data.knowledge, params, name)
        table[name] = probe_recall(probe, TowerEmbedder(workdir.config, params, "query"), search)
    return table


def show(table: dict[str, dict[str, recall.Mean]]) -> str:
    """The table as Markdown, with n and half the 95% interval."""
    columns = list(next(iter(table.values())))
    lines = ["| | " + " | ".join(columns) + " | n |", "|---|" + "---:|" * (len(columns) + 1)]
    for name, row in table.items():
        lines.append(f"| {name} | " + " | ".join(str(row[c]) for c in columns) + f" | {row[columns[0]].n} |")
    return "\n".join(lines)


def as_json(table: dict[str, dict[str, recall.Mean]]) -> dict:
    """The table as plain values."""
    return {name: {key: dataclasses.asdict(value) for key, value in row.items()} for name, row in table.items()}


def _judge(data: RunData, questions: list[Question]) -> "_PassageRecall | _AnswerRecall":
    records = {source_id: i for i, source_id in enumerate(data.knowledge.record_ids())}
    with_passage = [q for q in questions if q.gold_passage in records]
    if with_passage:
        return _PassageRecall(data.knowledge, with_passage, np.array([records[q.gold_passage] for q in with_passage]))
    with_answers = [q for q in questions if q.answers]
    if not with_answers:
        raise ConfigError(
            "no question has an answer, nor a gold_passage of the corpus "
            f"{data.knowledge.manifest['description']['source']}: evaluate a run on the corpus of the questions"
        )
    return _AnswerRecall(data, with_answers)


class _PassageRecall:
    """Whether the wanted record is among the first k distinct ones; a record counts as its best block."""

    def __init__(self, corpus: Corpus, questions: list[Question], wanted: np.ndarray):
        self.questions, self._wanted, self._of_block = questions, wanted, corpus.record_of_block
        blocks_of_record = np.bincount(self._of_block)
        self._ks = tuple(k for k in KS if k <= len(blocks_of_record))
        self.depth = min(max(KS) * int(blocks_of_record.max()), corpus.num_blocks)

    def __call__(self, found: np.ndarray) -> dict[str, recall.Mean]:
        passages = np.where(found >= 0, self._of_block[found], -1)
        return recall.recall_table(recall.first_distinct(passages, max(self._ks)), self._wanted, self._ks)


class _AnswerRecall:
    """Whether one of the first k blocks has an answer."""

    def __init__(self, data: RunData, questions: list[Question]):
        self.questions, self._finder = questions, AnswerFinder(data.knowledge, data.tokenizer)
        self._ks = tuple(k for k in KS if k <= data.knowledge.num_blocks)
        self.depth = max(self._ks)

    def __call__(self, found: np.ndarray) -> dict[str, recall.Mean]:
        holds = self._finder.each_holds(self.questions, found, "wordpieces")
        return {f"recall@{k}": recall.mean(holds[:, :k].any(-1)) for k in self._ks}


def _parts(query_emb: np.ndarray) -> int:
    return max(1, -(-len(query_emb) // 512))
