"""ScaNN (Guo et al. 2020) on the host: the default search.

The scoring grows with the corpus:

    up to BRUTE_FORCE_LIMIT blocks   brute force, exact
    up to TREE_LIMIT blocks          asymmetric hashing (AH): a scan of dim/2 bytes a block
    beyond                           AH in the leaves of a k-means tree that are closest to the query

ScaNN proposes `index.scann_reorder` blocks or more, and they are scored again from the stored embeddings, so that
scores are exact inner products and the version's files hold hashes only. Bytes a block, measured at 200,000 blocks of
128 dims: about 73 on disk; in memory 49 for a searcher with AH, 513 for brute force (a float32 copy), up to 2,000 in a
build. A tree with `index.scann_soar` has 66 bytes a block more on disk.
`index.scann_leaves_to_search=1` means exhaustive and is brute force at any size. `tuning` chooses both settings.

The files may be of an earlier version with fewer blocks (`serves`): the blocks since are a tail that is scored exactly.
"""

import copy
import ctypes
import functools
import math
import mmap
import re
from pathlib import Path

import numpy as np
from etils import epath
from jaxtyping import Bool, Float, Int

from realm_jax.batches import Array
from realm_jax.config import ConfigError, IndexConfig
from realm_jax.index.top_k import top_k

BRUTE_FORCE_LIMIT = 20_000  # both limits are the advice of ScaNN's own documentation
TREE_LIMIT = 100_000
NEIGHBORS = 100  # what ScaNN's builder wants to know; each search says its own number
DIMS_PER_HASH = 2  # as ORQA and REALM used it
ANISOTROPIC_THRESHOLD = 0.2  # of Guo et al. 2020
SOAR = 1.5  # of Sun et al. 2023
TRAINING_ROWS = 250_000
QUERIES_PER_THREAD = 32
QUERIES_AT_ONCE = 8  # whose candidates fit into the processor's cache while they are scored again
ABSL_WARNING = 1  # absl::LogSeverity


def build(embeddings: Float[np.ndarray, "blocks dim"], *, folder: epath.PathLike, config: IndexConfig) -> dict:
    """Trains a searcher and writes it to `folder`/scann; brute force needs no files. Releases the GIL.

    Returns:
        scoring (brute_force, ah or tree_ah), the blocks in the files, and for a tree its leaves and those searched.

    Raises:
        ConfigError: this Python has no ScaNN, or the files could not be written.
    """
    scann = _import_scann()
    scoring, leaves = _scoring(len(embeddings), config), _num_leaves(len(embeddings))
    if scoring == "brute_force":
        return {"scoring": scoring}
    target = Path(folder) / "scann"
    builder = scann.builder(np.asarray(embeddings, np.float32), NEIGHBORS, "dot_product")
    builder = builder.set_n_training_threads(config.builder_threads)
    if scoring == "tree_ah":
        builder = builder.tree(
            num_leaves=leaves,
            num_leaves_to_search=_leaves_to_search(leaves, config),
            training_sample_size=min(len(embeddings), TRAINING_ROWS),
            soar_lambda=SOAR if config.scann_soar else None,
        )
    builder = builder.score_ah(DIMS_PER_HASH, anisotropic_quantization_threshold=ANISOTROPIC_THRESHOLD)
    target.mkdir(exist_ok=True)
    try:
        builder.build().serialize(str(target), relative_path=True)
    except RuntimeError as error:
        raise ConfigError(f"ScaNN could not write {target}: {error}: free some disk space and run again") from error
    info = {"scoring": scoring, "blocks": len(embeddings)}
    if scoring == "ah":
        return info
    return {**info, "leaves": leaves, "leaves_to_search": _leaves_to_search(leaves, config)}


def serves(built: int, num_blocks: int, config: IndexConfig) -> bool:
    """Whether the files of the first `built` blocks serve for `num_blocks`, or have to be built again."""
    return _scoring(built, config) == _scoring(num_blocks, config) and num_blocks - built <= BRUTE_FORCE_LIMIT


class ScannSearch:
    """A ScaNN searcher over the embeddings of one index version. `search` may be called from several threads."""

    def __init__(
        self,
        embeddings: Float[np.ndarray, "blocks dim"],
        live: Bool[np.ndarray, " blocks"] | None = None,
        *,
        folder: epath.PathLike,
        config: IndexConfig,
    ):
        """Reads the files of `build`; see `open_search`."""
        self._embeddings, self._live = embeddings, live
        self._num_live = len(embeddings) if live is None else int(np.sum(live))
        scoring = _scoring(len(embeddings), config)
        if scoring == "brute_force":
            self._searcher = _brute_force(embeddings)
        else:
            self._searcher = _load(Path(folder) / "scann", len(embeddings))
        self._built = self._searcher.size()
        self._tail = _brute_force(embeddings[self._built :]) if self._built < len(embeddings) else None
        self.scoring = scoring
        """brute_force, ah or tree_ah."""
        self._leaves = _num_leaves(self._built) if scoring == "tree_ah" else None
        self._set(config)

    def _set(self, config: IndexConfig) -> None:
        self.leaves_to_search = self._leaves and _leaves_to_search(self._leaves, config)
        """Of the leaves of the tree; None without one."""
        self._reorder = config.scann_reorder

    def with_settings(self, config: IndexConfig) -> "ScannSearch":
        """The same search, which shares its files and embeddings, with other leaves to search and reordering."""
        other = copy.copy(self)
        other._set(config)
        return other

    def search(
        self, query_emb: Float[Array, "batch dim"], k: int
    ) -> tuple[Int[np.ndarray, "batch k"], Float[np.ndarray, "batch k"]]:
        """See `Search.search`. Looks further for the queries that got fewer than k live blocks."""
        query_emb = np.ascontiguousarray(query_emb, np.float32)
        proposals, leaves = max(self._reorder, 2 * k), self.leaves_to_search
        ids, scores = self._search(query_emb, k, proposals, leaves)
        wanted = min(k, self._num_live)
        while True:
            short = np.flatnonzero((ids >= 0).sum(axis=1) < wanted)
            if not len(short) or (proposals >= len(self._embeddings) and leaves == self._leaves):
                return ids, scores
            proposals, leaves = 4 * proposals, leaves and min(4 * leaves, self._leaves)
            ids[short], scores[short] = self._search(query_emb[short], k, proposals, leaves)

    def _search(self, query_emb: np.ndarray, k: int, proposals: int, leaves: int | None) -> tuple:
        if not query_emb.size:
            return top_k(np.zeros((len(query_emb), 0), np.int32), np.zeros((len(query_emb), 0), np.float32), k)
        ids = _propose(self._searcher, query_emb, proposals, leaves)
        if self._tail is not None:
            more = _propose(self._tail, query_emb, proposals)
            ids = np.concatenate([ids, np.where(more < 0, -1, more + self._built)], axis=1)
        if self._live is not None:
            ids = np.where(self._live[ids], ids, -1)
        return top_k(ids, self._scores(query_emb, ids), k)

    def _scores(self, query_emb: np.ndarray, ids: np.ndarray) -> np.ndarray:
        """float32 [batch, proposals]: inner products with the stored embeddings; those of block -1 mean nothing."""
        embeddings, rows = np.asarray(self._embeddings), np.maximum(ids, 0)
        scores = np.empty(ids.shape, np.float32)
        for start in range(0, len(ids), QUERIES_AT_ONCE):
            part = slice(start, start + QUERIES_AT_ONCE)
            candidates = np.take(embeddings, rows[part], axis=0).astype(np.float32, copy=False)
            scores[part] = np.matmul(candidates, query_emb[part, :, None])[:, :, 0]
        return scores


def _brute_force(embeddings: np.ndarray):
    matrix = np.ascontiguousarray(embeddings, np.float32)
    return _import_scann().builder(matrix, NEIGHBORS, "dot_product").score_brute_force().build()


def _propose(searcher, query_emb: np.ndarray, proposals: int, leaves: int | None = None) -> np.ndarray:
    """int64 [batch, proposals or all]: rows of the searcher, -1 where it found fewer."""
    found, distances = searcher.search_batched_parallel(
        query_emb,
        final_num_neighbors=min(proposals, searcher.size()),
        leaves_to_search=leaves,
        batch_size=QUERIES_PER_THREAD,
    )
    # ScaNN marks a missing result by a NaN distance; its id is then 0.
    return np.where(np.isnan(distances), -1, found.astype(np.int64))


def _scoring(num_blocks: int, config: IndexConfig) -> str:
    if num_blocks <= BRUTE_FORCE_LIMIT or config.scann_leaves_to_search == 1:
        return "brute_force"
    return "ah" if num_blocks <= TREE_LIMIT else "tree_ah"


def _num_leaves(num_blocks: int) -> int:
    return math.isqrt(num_blocks)


def _leaves_to_search(leaves: int, config: IndexConfig) -> int:
    return math.ceil(leaves * config.scann_leaves_to_search)


def _load(folder: Path, num_blocks: int):
    fix = "delete this index version and build a new one"
    if not (folder / "scann_assets.pbtxt").exists():
        raise ConfigError(f"{folder} holds no ScaNN searcher for {num_blocks} blocks: {fix}")
    try:
        searcher = _import_scann().load_searcher(str(folder))
    except RuntimeError as error:
        raise ConfigError(f"{folder} is damaged ({error}): {fix}") from error
    if searcher.size() > num_blocks:
        raise ConfigError(f"{folder} indexes {searcher.size()} blocks, the embeddings are of {num_blocks}: {fix}")
    return searcher


def _import_scann():
    try:
        from scann import scann_ops_pybind
    except ImportError as error:
        raise ConfigError(
            "index.search=scann needs the scann wheel (Linux, Python < 3.14): use --index.search=exact"
        ) from error
    _quiet(scann_ops_pybind.scann_pybind.__file__)
    return scann_ops_pybind


@functools.cache
def _quiet(library: str) -> None:
    """Keeps ScaNN's C++ from writing of each build to stderr; its warnings and errors still come.

    No environment variable does this. The library exports the function that sets the level of its log; its name holds
    a version.
    """
    with open(library, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        found = re.search(rb"_ZN4absl\w*14SetMinLogLevelENS\w+", content)
        setter = found and found[0].decode()
    if setter:
        getattr(ctypes.CDLL(library), setter)(ABSL_WARNING)
