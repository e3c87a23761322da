"""Zero-shot retrieval of every state of a run, and of BM25, in one table.

Questions that name gold passages count distinct passages, each as its best block, whatever the length of blocks; for
others a block with an answer is right. Without questions, held-out sentences are the queries and their own block is
right: plain, and hard, with a salient span masked and the title's words taken out.
"""

import dataclasses
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from realm_jax import report
from realm_jax.batches import Tokens
from realm_jax.config import ConfigError
from realm_jax.data.corpus import Corpus
from realm_jax.data.prepare import RunData, open_prepared
from realm_jax.eval import block_sample
from realm_jax.eval.baselines import bm25
from realm_jax.eval.block_sample import BlockSample, NewestIndex
from realm_jax.eval.gold import gold_records
from realm_jax.eval.ranking_files import Ranking
from realm_jax.index.embed_blocks import TowerEmbedder
from realm_jax.index.loaded_index import exact_index, is_too_large
from realm_jax.index.probe import KS as PROBE_KS
from realm_jax.index.probe import embed_queries, make_probe, probe_recall
from realm_jax.openqa.inputs import question_tokens
from realm_jax.openqa.labels import AnswerFinder
from realm_jax.records import Question
from realm_jax.scores import recall
from realm_jax.training import phases
from realm_jax.workdir import Workdir

log = logging.getLogger(__name__)

KS = (1, 5, 20, 100)
STATES = {"first": "first weights", "ict": "after ICT", "realm": "after REALM"}
"""Names that `--states` takes, and what the tables call them."""


def embedder_states(workdir: Workdir, wanted: Sequence[str] = ()) -> dict[str, dict]:
    """Embedder parameters of every finished phase, in order.

    Args:
        wanted: names of STATES; all by default.

    Raises:
        ConfigError: none of the wanted phases is finished.
    """
    states = {"first weights": phases.first_params(workdir, ("embedder",))["embedder"]}
    for name, phase in (("after ICT", "ict"), ("after REALM", "pretrain")):
        if workdir.is_done(phase):
            states[name] = phases.last_params(workdir, phase, ("embedder",))["embedder"]
    chosen = {name: params for name, params in states.items() if not wanted or name in map(STATES.get, wanted)}
    if not chosen:
        known = ",".join(short for short, name in STATES.items() if name in states)
        raise ConfigError(f"{workdir.path} has no state {','.join(wanted)} yet: pass --states={known}")
    return chosen


@dataclass(frozen=True)
class QuestionRecall:
    """What retrieval finds for a set of questions."""

    table: dict[str, dict[str, recall.Mean]]
    """recall@k of each state and of BM25; empty if nothing is known to be right."""
    over: str
    """What counts as found, and for how many of the questions."""
    ranking: Ranking
    """What the last state finds for all questions; where the corpus is sampled, what the newest index version finds."""
    sample: BlockSample | None = None
    """The blocks that the states search, if not all."""


def question_recall(
    workdir: Workdir, questions: list[Question], states: Sequence[str] = (), *, or_rank: bool = False
) -> QuestionRecall:
    """Measures recall@k of each state and of BM25.

    If questions name gold passages of this corpus, only these questions count, and any of its passages is right for a
    question; else every block with an answer is right. BM25 searches all blocks; what it finds is in a sample.

    Args:
        states: names of STATES to be judged; all by default.
        or_rank: accepts questions without gold passages and answers, as in the test sets of contests: they are ranked,
            and no recall is measured.

    Raises:
        ConfigError: there is neither a gold passage of this corpus nor an answer.
    """
    data = open_prepared(workdir)
    judge = judge_of(data, questions, or_rank=or_rank)
    tokens = question_tokens(questions, data.tokenizer, data.special, workdir.config.pretrain.query_len_tokens)
    by_words = bm25(data.knowledge, [questions[row].text for row in judge.rows], judge.depth) if judge.rows else None
    sample, ranking = None, None
    if is_too_large(workdir.config, data.knowledge):
        newest = NewestIndex(workdir, data.knowledge, [*embedder_states(workdir).values()][-1])
        ranking = Ranking(newest.name, questions, *newest.search(tokens, judge.depth))
        near = [ranking.blocks] if by_words is None else [ranking.blocks, by_words]
        sample = block_sample.draw(workdir.config, data.knowledge, [judge.wanted, *near], newest.name)
    table = {}
    for name, params in embedder_states(workdir, states).items():
        found, scores = _found(workdir, data, params, name, tokens, judge.depth, sample)
        if judge.rows:
            table[name] = judge(found[judge.rows])
    if by_words is not None:
        table["BM25"] = judge(by_words)
    if judge.bad_patterns:
        bad = sorted(judge.bad_patterns)
        log.info(f"{len(bad)} expressions cannot be matched and count as wrong: {'; '.join(bad[:3])[:200]}")
    if ranking is None or not ranking.retriever:
        ranking = Ranking(name, questions, found, scores)
    return QuestionRecall(table, judge.over, ranking, sample)


def _found(
    workdir: Workdir, data: RunData, params: dict, name: str, tokens: Tokens, depth: int, sample: BlockSample | None
) -> tuple[Int[np.ndarray, "queries depth"], Float[np.ndarray, "queries depth"]]:
    """What one state of the embedder finds, in all blocks or in those of a sample, and the scores."""
    blocks = None if sample is None else sample.blocks
    search = exact_index(workdir.config, data.knowledge, params, name, blocks).search
    query_emb = embed_queries(TowerEmbedder(workdir.config, params, "query"), tokens)
    parts = [search.search(part, depth) for part in np.array_split(query_emb, _parts(query_emb))]
    found, scores = (np.concatenate(part) for part in zip(*parts, strict=True))
    return found, scores


def heldout_recall(
    workdir: Workdir, states: Sequence[str] = ()
) -> tuple[dict[str, dict[str, recall.Mean]], BlockSample | None]:
    """Plain and hard recall of held-out sentences for each state.

    Args:
        states: names of STATES to be judged; all by default.

    Returns:
        the table, and the blocks that are searched, if not all.

    Raises:
        ConfigError: there is no such sentence.
    """
    data = open_prepared(workdir)
    config = workdir.config
    probe = make_probe(data.knowledge, data.special, config, config.pretrain.recall_examples, data.examples)
    if probe is None:
        raise ConfigError(f"{workdir.path}: no held-out sentences: pass --dataset=FILE.jsonl")
    blocks, sample = None, None
    if is_too_large(workdir.config, data.knowledge):
        newest = NewestIndex(workdir, data.knowledge, [*embedder_states(workdir).values()][-1])
        found = [newest.search(tokens, max(PROBE_KS))[0] for tokens in (probe.plain, probe.hard)]
        sample = block_sample.draw(workdir.config, data.knowledge, [probe.own_block, *found], newest.name)
        blocks = sample.blocks
    table = {}
    for name, params in embedder_states(workdir, states).items():
        search = exact_index(workdir.config, data.knowledge, params, name, blocks).search
        table[name] = probe_recall(probe, TowerEmbedder(workdir.config, params, "query"), search)
    return table, sample


def show(table: dict[str, dict[str, recall.Mean]]) -> str:
    """The table as Markdown, with n and half the 95% interval."""
    columns = list(next(iter(table.values())))
    rows = [(name, *(str(row[c]) for c in columns), str(row[columns[0]].n)) for name, row in table.items()]
    return report.table(("", *columns, "n"), rows, words=("",))


def as_json(table: dict[str, dict[str, recall.Mean]]) -> dict:
    """The table as plain values."""
    return {name: {key: dataclasses.asdict(value) for key, value in row.items()} for name, row in table.items()}


def judge_of(
    data: RunData, questions: list[Question], *, or_rank: bool = False
) -> "_PassageRecall | _AnswerRecall | _NoRecall":
    """Chooses what counts as found for these questions: gold passages if the corpus has any, else answers.

    Args:
        or_rank: where there is neither, no question counts.

    Raises:
        ConfigError: there is neither.
    """
    gold = gold_records(data.knowledge, questions)
    if any(gold.records):
        return _PassageRecall(data.knowledge, gold.records, f"{gold}")
    with_answers = [row for row, question in enumerate(questions) if question.answers]
    if not with_answers and or_rank:
        return _NoRecall(data.knowledge)
    if not with_answers:
        raise ConfigError(
            "no question has an answer, nor a gold_passage of the corpus "
            f"{data.knowledge.manifest['description']['source']}: evaluate a run on the corpus of the questions"
        )
    return _AnswerRecall(data, questions, with_answers, f"; {gold}" if gold.named else "")


class _NoRecall:
    """Judges nothing, since nothing is known to be right."""

    bad_patterns: frozenset[str] = frozenset()
    wanted = np.zeros(0, np.int64)
    over = "no recall: no question has an answer, nor a gold passage of this corpus"

    def __init__(self, corpus: Corpus):
        self.rows: list[int] = []
        self.depth = min(max(KS), corpus.num_blocks)


class _PassageRecall:
    """Whether a wanted record is among the first k distinct ones; a record counts as its best block."""

    bad_patterns: frozenset[str] = frozenset()

    def __init__(self, corpus: Corpus, records: list[list[int]], gold: str):
        self.rows = [row for row, wanted in enumerate(records) if wanted]
        self.over = f"recall of gold passages, over {len(self.rows):,} of {len(records):,} questions; {gold}"
        width = max(map(len, records))
        self._wanted = np.array([records[row] + [-2] * (width - len(records[row])) for row in self.rows])
        self._of_block = corpus.record_of_block
        blocks_of_record = np.bincount(self._of_block)
        self._ks = tuple(k for k in KS if k <= len(blocks_of_record))
        self.depth = min(max(KS) * int(blocks_of_record.max()), corpus.num_blocks)
        self.wanted = np.flatnonzero(np.isin(self._of_block, self._wanted))
        """All blocks of the wanted records."""

    def __call__(self, found: np.ndarray) -> dict[str, recall.Mean]:
        passages = np.where(found >= 0, self._of_block[found], -1)
        return recall.recall_table(recall.first_distinct(passages, max(self._ks)), self._wanted, self._ks)


class _AnswerRecall:
    """Whether one of the first k blocks has an answer."""

    wanted = np.zeros(0, np.int64)  # not known

    def __init__(self, data: RunData, questions: list[Question], rows: list[int], gold: str):
        self.rows, self._questions = rows, [questions[row] for row in rows]
        self.over = f"recall of answers, over {len(rows):,} of {len(questions):,} questions{gold}"
        self._finder = AnswerFinder(data.knowledge, data.tokenizer)
        self.bad_patterns = self._finder.bad_patterns
        self._ks = tuple(k for k in KS if k <= data.knowledge.num_blocks)
        self.depth = max(self._ks)

    def __call__(self, found: np.ndarray) -> dict[str, recall.Mean]:
        holds = self._finder.each_holds(self._questions, found, "wordpieces")
        return {f"recall@{k}": recall.mean(holds[:, :k].any(-1)) for k in self._ks}


def _parts(query_emb: np.ndarray) -> int:
    return max(1, -(-len(query_emb) // 512))
