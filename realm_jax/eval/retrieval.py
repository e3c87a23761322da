"""Zero-shot retrieval of every state of a run, and of BM25, in one table.

A passage (a record of the corpus) scores as its best block, so recall@k counts distinct passages, whatever the length
of blocks. Without questions, held-out sentences are the queries: the plain sentence -> its own block, and the hard one.
"""

import dataclasses

import numpy as np

from realm_jax.config import ConfigError
from realm_jax.data import questions
from realm_jax.data.corpus import Corpus
from realm_jax.data.ict import concatenate
from realm_jax.data.prepare import RunData, open_prepared
from realm_jax.eval.baselines import bm25
from realm_jax.eval.exact_index import exact_index
from realm_jax.index.embed_blocks import TowerEmbedder
from realm_jax.index.probe import embed_queries, make_probe, probe_recall
from realm_jax.scores import recall
from realm_jax.training import phases
from realm_jax.types import stack
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


def question_recall(workdir: Workdir, path: str) -> dict[str, dict[str, recall.Mean]]:
    """recall@k of each state and of BM25 on a question file whose lines name a `gold_passage`.

    Raises:
        ConfigError: no question names a passage of this corpus.
    """
    data = open_prepared(workdir)
    records = _passages(data.knowledge)
    asked = [q for q in questions.read(path) if q.gold_passage in records.ids]
    if not asked:
        raise ConfigError(
            f"{path}: no question has a gold_passage of the corpus {data.knowledge.manifest['description']['source']}: "
            "evaluate a run on the corpus that the questions belong to"
        )
    wanted = np.array([records.ids[q.gold_passage] for q in asked])
    depth = min(max(KS) * records.most_blocks, data.knowledge.num_blocks)
    tokens = stack([_query_tokens(workdir, data, q.text) for q in asked])
    table = {}
    for name, params in embedder_states(workdir).items():
        search, _ = exact_index(workdir.config, data.knowledge, params, name)
        embed = TowerEmbedder(workdir.config, params, "query")
        query_emb = embed_queries(embed, tokens)
        found = np.concatenate([search.search(part, depth)[0] for part in np.array_split(query_emb, _parts(query_emb))])
        table[name] = _passage_recall(found, records, wanted)
    table["BM25"] = _passage_recall(bm25(data.knowledge, [q.text for q in asked], depth), records, wanted)
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


@dataclasses.dataclass(frozen=True)
class _Passages:
    ids: dict[str, int]
    """Source id -> ordinal of the passage."""
    of_block: np.ndarray
    """int64 [blocks]: ordinal of the passage that a block was cut from."""
    most_blocks: int


def _passages(corpus: Corpus) -> _Passages:
    of_block = corpus.record_of_block
    ids = {source_id: i for i, source_id in enumerate(corpus.record_ids())}
    return _Passages(ids, of_block, int(np.bincount(of_block).max()))


def _passage_recall(found: np.ndarray, records: _Passages, wanted: np.ndarray) -> dict[str, recall.Mean]:
    passages = np.where(found >= 0, records.of_block[found], -1)
    ks = tuple(k for k in KS if k <= len(records.ids))
    return recall.recall_table(recall.first_distinct(passages, max(ks)), wanted, ks)


def _query_tokens(workdir: Workdir, data: RunData, text: str):
    ids = np.array(data.tokenizer.encode(text, add_special_tokens=False).ids)
    return concatenate([ids], data.special, workdir.config.pretrain.query_len_tokens)


def _parts(query_emb: np.ndarray) -> int:
    return max(1, -(-len(query_emb) // 512))
