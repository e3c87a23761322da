"""Chooses ScaNN's settings for a run: the fastest that reach a recall, measured with the run's own queries.

Recall@5 is the share of the exact five best blocks that ScaNN finds in the same index version. One half of the queries
chooses, the other half judges: on the queries that chose it, a setting that just reaches the recall looks better than
it is.
"""

import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from realm_jax import report
from realm_jax.batches import Tokens, stack
from realm_jax.config import Config, ConfigError, IndexConfig
from realm_jax.data.pipeline import MaskedSentences, shuffled
from realm_jax.data.prepare import RunData
from realm_jax.index import scann
from realm_jax.index.embed_blocks import TowerEmbedder
from realm_jax.index.exact import search_in_parts
from realm_jax.index.loaded_index import load
from realm_jax.index.probe import embed_queries
from realm_jax.index.search import RECALL_K, Search, recall_at_k, sample_queries
from realm_jax.index.version import Version

LEAVES = (0.001, 0.002, 0.003, 0.005, 0.007, 0.01, 0.015, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3, 0.5, 0.8)
"""Shares of the leaves that are tried."""
REORDER = (10, 20, 50, 100, 200, 500, 1000)
"""Numbers of proposals that are tried."""
LEAST_GAIN = 0.0005  # in recall: where more proposals bring less than this, the rest is in other leaves
REPEATS = 3
BATCH = 256  # queries that are searched at once


@dataclass(frozen=True)
class Measured:
    """How much of the truth ScaNN finds with one setting, and how fast."""

    settings: dict[str, float | int]
    """Of `IndexConfig`: scann_reorder, and where the index has a tree scann_leaves_to_search."""
    recall: float
    queries_per_s: float


@dataclass(frozen=True)
class Tuning:
    """Every setting that was measured, and the chosen one."""

    rows: list[Measured]
    """In the order in which they were tried: fewer leaves first, then fewer proposals."""
    chosen: Measured | None
    """The fastest that reaches the recall; None if none does."""
    judged: Measured | None
    """The chosen setting, measured with the other half of the queries."""


def open_tunable(version: Version, data: RunData, config: IndexConfig) -> scann.ScannSearch:
    """The ScaNN search of an index version. Raises ConfigError where it has no settings, since it is exact."""
    kind = version.manifest["search"]
    if kind != "scann":
        finds = "it scores every block" if kind == "exact" else "its hashes are set by index.lsh_tables and lsh_bits"
        raise ConfigError(f"{version.folder} was built for index.search={kind}: {finds}: there is nothing to tune")
    search = load(version, data.knowledge, config, "scann").search
    if search.scoring == "brute_force":
        raise ConfigError(
            f"{version.folder} has {version.manifest['num_blocks']:,} blocks, and ScaNN scores every one (as it does "
            f"up to {scann.BRUTE_FORCE_LIMIT:,}, or with index.scann_leaves_to_search=1): there is nothing to tune"
        )
    return search


def masked_sentences(data: RunData, config: Config, number: int) -> Tokens | None:
    """Up to `number` queries as training asks them, [queries, tokens], by the run's seed; None if there are none."""
    try:
        fraction = config.corpus.heldout_fraction
        sentences = MaskedSentences(data.text, data.special, config.pretrain, fraction, kept=data.examples)
    except ConfigError:
        return None
    drawn = itertools.islice(shuffled(len(sentences), config.seed), number)
    return stack([sentences.example(i, np.random.default_rng((config.seed, i))).query for i in drawn])


def query_embeddings(
    version: Version, data: RunData, config: Config, params: dict, number: int
) -> tuple[Float[np.ndarray, "queries dim"], str]:
    """The queries that a run is tuned with, and what they are: masked sentences, or else blocks with noise.

    Args:
        params: the embedder's.
    """
    tokens = masked_sentences(data, config, number)
    if tokens is None:
        return sample_queries(version.load_embeddings(), number), "block embeddings, half of them with noise"
    return embed_queries(TowerEmbedder(config, params, "query"), tokens), "masked sentences"


def exact_best(
    version: Version, data: RunData, query_emb: Float[np.ndarray, "queries dim"]
) -> Int[np.ndarray, "queries k"]:
    """The truth: the five best live blocks of an index version for each query."""
    embeddings, live = version.load_embeddings(), version.live_blocks(data.knowledge)
    return search_in_parts(embeddings, live, query_emb, RECALL_K)[0]


def tune(
    search: scann.ScannSearch,
    query_emb: Float[np.ndarray, "queries dim"],
    exact_ids: Int[np.ndarray, "queries k"],
    recall: float,
    progress: Callable[[int, None], None] = lambda done, total: None,
) -> Tuning:
    """Measures settings, the cheapest first, until more leaves only cost speed.

    Args:
        exact_ids: of `exact_best`.
        recall: recall@5 to be reached.
        progress: called with the number of settings measured, and None for the unknown total.
    """
    choosing, judging = halves(len(query_emb))
    rows = []
    for row in _rows(search, query_emb[choosing], exact_ids[choosing], recall):
        rows.append(row)
        progress(len(rows), None)
    reaching = [row for row in rows if row.recall >= recall]
    if not reaching:
        return Tuning(rows, None, None)
    chosen = max(reaching, key=lambda row: row.queries_per_s)
    return Tuning(rows, chosen, _measure(search, chosen.settings, query_emb[judging], exact_ids[judging]))


def halves(number: int) -> tuple[Int[np.ndarray, " half"], Int[np.ndarray, " rest"]]:
    """Rows of two halves of the queries, drawn: their order means something (every other block is given noise)."""
    drawn = np.random.default_rng(0).permutation(number)
    return drawn[: number // 2], drawn[number // 2 :]


def _rows(search: scann.ScannSearch, query_emb: np.ndarray, exact_ids: np.ndarray, recall: float) -> Iterator[Measured]:
    fastest = 0.0  # of those that reach the recall
    for tree in _trees(search):
        before = -1.0
        for reorder in REORDER:
            row = _measure(search, {**tree, "scann_reorder": reorder}, query_emb, exact_ids)
            yield row
            if row.recall >= recall:
                if row.queries_per_s < fastest:
                    return
                fastest = row.queries_per_s
            if row.recall >= recall or row.recall - before < LEAST_GAIN:
                break
            before = row.recall


def _trees(search: scann.ScannSearch) -> list[dict]:
    """The shares of leaves to try, of those that mean the same leaves the first; one empty setting without a tree."""
    if search.leaves_to_search is None:
        return [{}]
    settings = [{"scann_leaves_to_search": share} for share in LEAVES]
    by_leaves = {search.with_settings(IndexConfig(**tree)).leaves_to_search: tree for tree in reversed(settings)}
    return list(reversed(by_leaves.values()))


def _measure(search: scann.ScannSearch, settings: dict, query_emb: np.ndarray, exact_ids: np.ndarray) -> Measured:
    configured = search.with_settings(IndexConfig(**settings))
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        ids = _search(configured, query_emb)
        seconds.append(time.perf_counter() - start)
    recall = recall_at_k(ids, exact_ids)
    return Measured(settings, recall, len(query_emb) / statistics.median(seconds))


def _search(search: Search, query_emb: np.ndarray) -> np.ndarray:
    starts = range(0, len(query_emb), BATCH)
    return np.concatenate([search.search(query_emb[start : start + BATCH], RECALL_K)[0] for start in starts])


def show(tuning: Tuning) -> str:
    """The measured settings as a Markdown table; an arrow points at the chosen one."""
    rows = []
    for row in tuning.rows:
        leaves = row.settings.get("scann_leaves_to_search")
        share = "" if leaves is None else f"{100 * leaves:g}%"
        cells = (share, str(row.settings["scann_reorder"]), f"{row.recall:.4f}", f"{row.queries_per_s:,.0f}")
        rows.append((*cells, "←" if row is tuning.chosen else ""))
    return report.table(("leaves", "reordered", "recall@5", "queries/s", "chosen"), rows, words=("chosen",))
