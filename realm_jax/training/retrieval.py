"""Batches with retrieved blocks: retrieval for batch t+1 overlaps the training step on batch t.

The queries of the next batch are embedded with the weights from before the current step, dispatched just ahead of it
(so no copy of the weights is needed, though the step donates them); search and gathering then run on a thread. The
index only proposes candidates: the step scores them afresh. A checkpoint keeps the candidates in flight, so that a
restart trains on the same batches as an unbroken run with the same index versions.

Several hosts retrieve each for its own share of the batch, in the same version: the first host loads the newest, says
which, and all switch to it at the step at which they learn that every host has it.
"""

import threading
import time
import zlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from absl import logging
from jaxtyping import Float

from realm_jax import hosts, parallel
from realm_jax.batches import Tokens
from realm_jax.config import Config, ConfigError, RunError
from realm_jax.data.corpus import Corpus
from realm_jax.index.exact_index import open_exact
from realm_jax.index.search import Search, open_search
from realm_jax.index.store import IndexStore, Version
from realm_jax.models import embedder

POLL_S = 0.5  # between looks for a newer index version
TICK_S = 0.002  # resolution of the time waited for retrieval


@dataclass(frozen=True)
class LoadedIndex:
    """An index version in memory."""

    version: Version
    embeddings: Float[np.ndarray, "blocks dim"]
    search: Search


class CurrentIndex:
    """The newest index version, loaded by a background thread while the trainer goes on with the one before.

    A version that the trainer itself builds is in use from the very next step on, for which `adopt` waits: the version
    of a step is then a function of that step, also after a restart.

    The trainer keeps to the blocks of the corpus that it opened (see `Version.live_blocks`): batches name no others.
    """

    def __init__(
        self,
        store: IndexStore,
        corpus: Corpus,
        config: Config,
        first_step: int,
        *,
        exact: bool = False,
        own_every: int = 0,
    ):
        """Loads the first version, and records its use from `first_step` on.

        Args:
            exact: search exactly, whatever search the versions were built for.
            own_every: steps between versions that this trainer builds itself; 0 where a builder does, or nobody.
        """
        self._store, self._corpus, self._config = store, corpus, config
        self._kind = "exact" if exact else config.index.search
        self._ready: LoadedIndex | None = None
        self._error: Exception | None = None
        self._changed = threading.Condition()
        self._look, self._closed = threading.Event(), False
        self._host, self._ballot = hosts.this(), hosts.Ballot()
        self._first_hosts = 0
        """Mark of the version that the first host has loaded."""
        self.waited_s = 0.0
        """Seconds that `adopt` waited for a version."""
        self._own_every = own_every
        self._up_to = self._newest_for(first_step)
        """No version of a later step is taken: a restart may find one that it has yet to reach."""
        self.loaded = self._load(common_version(store, self._up_to))
        self._record(first_step)
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def adopt(self, trainer_step: int) -> bool:
        """Switches to a newer version if one is loaded, and enforces the age limit. True if it switched.

        Raises:
            RunError: the version is past `index.max_age_steps` and the policy is `stop`, or a wait met its deadline.
        """
        config = self._config.index
        self._up_to = self._newest_for(trainer_step)
        oldest = self._up_to or 0
        if config.max_age_policy == "pause":
            oldest = max(oldest, trainer_step - config.max_age_steps)
        switched = self._switch(trainer_step)
        if self.loaded.version.step < oldest:
            self._wait_for(oldest, trainer_step)
            switched = True
        age = trainer_step - self.loaded.version.step
        if not config.max_age_steps or age <= config.max_age_steps:
            return switched
        message = f"the index is {age} steps old at step {trainer_step} (limit {config.max_age_steps})"
        if config.max_age_policy == "stop":
            raise RunError(f"{message}: start the builder and rerun this command")
        logging.log_every_n(logging.WARNING, "%s: is the builder running?", 100, message)
        return switched

    def _newest_for(self, trainer_step: int) -> int | None:
        """Step of the newest version that `trainer_step` may use; None, without limit, where a builder makes them."""
        return max(0, trainer_step - 1) // self._own_every * self._own_every if self._own_every else None

    def _wait_for(self, oldest: int, trainer_step: int) -> None:
        """Until a version of step `oldest` or later is in use."""
        started, timeout_s = time.monotonic(), self._config.index.wait_timeout_s
        while self.loaded.version.step < oldest:
            self._look.set()
            with self._changed:
                self._changed.wait_for(lambda: self._ready or self._error, timeout=POLL_S)
            if not self._switch(trainer_step) and time.monotonic() >= started + timeout_s:
                fix = "raise --index.wait_timeout_s" if self._own_every else "start the builder"
                age = f"the index is {trainer_step - self.loaded.version.step} steps old at step {trainer_step}"
                raise RunError(f"{age} and no newer one came in {timeout_s:.0f} s: {fix}")
        self.waited_s += time.monotonic() - started

    def _switch(self, trainer_step: int) -> bool:
        with self._changed:
            if self._error is not None:
                raise self._error
            said = self._ballot.cast(_mark(self._ready.version) if self._ready else 0)
            self._first_hosts = said.first
            all_have_it = 0 != said.least == said.greatest != _mark(self.loaded.version)
            if not all_have_it:
                return False
            ready, self._ready = self._ready, None
        self._store.unpin(self.loaded.version)
        self.loaded = ready
        self._record(trainer_step)
        return True

    def _record(self, trainer_step: int) -> None:
        version = self.loaded.version
        if hosts.is_first():
            self._store.record("adopted", version=version.name, step=version.step, trainer_step=trainer_step)

    def _load(self, version: Version) -> LoadedIndex:
        """A version that is pinned."""
        kind = self._kind
        if kind != "exact" and version.manifest["search"] != kind:
            raise ConfigError(
                f"{version.folder} was built for index.search={version.manifest['search']}, the config says {kind}: "
                "use another --workdir"
            )
        live, embeddings = version.live_blocks(self._corpus), version.load_embeddings()
        folder, config = version.local_folder(), self._config.index
        search = open_search(kind, embeddings, live=None if live.all() else live, folder=folder, config=config)
        return LoadedIndex(version, embeddings, search)

    def _follow(self) -> None:
        known = self.loaded.version
        while not self._closed:
            try:
                newest = self._next(known)
                if newest is not None and self._store.pin(newest):
                    ready = self._load(newest)
                    known = ready.version
                    with self._changed:
                        if self._ready is not None:
                            self._store.unpin(self._ready.version)
                        self._ready = ready
                        self._changed.notify_all()
            except (ConfigError, OSError) as error:
                with self._changed:
                    self._error = error
                    self._changed.notify_all()
                return
            self._look.wait(POLL_S)
            self._look.clear()

    def _next(self, known: Version) -> Version | None:
        """What to load after `known`: the newest version; where several hosts train, the one that the first has."""
        if self._host.index:
            return None if self._first_hosts in (0, _mark(known)) else _marked(self._store, self._first_hosts)
        if self._host.count > 1 and self._ready:  # the others are loading it
            return None
        newest = self._store.latest(self._up_to)  # also of the same step: `realm update`
        return newest if newest is not None and newest.order > known.order else None

    def metrics(self, trainer_step: int) -> dict[str, float]:
        """Version and age of the index; seconds since the last call that training waited for the builder."""
        version = self.loaded.version
        waited_s, self.waited_s = self.waited_s, 0.0
        return {
            "index_step": float(version.step),
            "index_age_steps": float(trainer_step - version.step),
            "index_age_seconds": time.time() - version.manifest["finished"],
            "index_wait_seconds": waited_s,
        }

    def close(self) -> None:
        """Stops looking for versions and gives up the pins."""
        self._closed = True
        self._look.set()
        self._thread.join(timeout=10 * POLL_S)
        for index in (self.loaded, self._ready):
            if index is not None:
                self._store.unpin(index.version)


def common_version(store: IndexStore, up_to: int | None = None) -> Version:
    """What `IndexStore.latest` is on the first host, pinned, on all hosts. Raises ConfigError if there is none."""
    version = store.pin_latest(up_to) if hosts.is_first() else None
    mark = hosts.from_first(_mark(version) if version else 0)
    if not hosts.is_first() and mark:
        version = _marked(store, mark)
        store.pin(version)
    if version is None:
        raise ConfigError(f"no index version in {store.folder}: run realm builder")
    return version


def _mark(version: Version) -> int:
    """A positive int32 by which hosts know a version."""
    return 1 + zlib.crc32(version.name.encode()) % (2**31 - 2)


def _marked(store: IndexStore, mark: int) -> Version:
    """The version of a mark. Raises RunError if this host does not see it."""
    for version in reversed(store.versions()):
        if _mark(version) == mark:
            return version
    raise RunError(f"the first host has an index version that {store.folder} lacks here: share one --workdir")


class FixedIndex:
    """One index version for a whole training, searched exactly, where the tower of its blocks does not learn."""

    def __init__(self, version: Version, corpus: Corpus):
        index = open_exact(version, corpus)
        self.loaded = LoadedIndex(version, index.embeddings, index.search)

    def adopt(self, trainer_step: int) -> bool:
        """Never switches."""
        del trainer_step
        return False

    def metrics(self, trainer_step: int) -> dict[str, float]:
        """Nothing changes."""
        del trainer_step
        return {}

    def close(self) -> None:
        """There is nothing to stop."""


@runtime_checkable
class Queries(Protocol):
    """What is retrieved for: masked sentences, or questions."""

    query: Tokens
    """[batch, tokens]"""


class RetrievalStream:
    """The stream (see `training.loop.Stream`) of batches of queries with their blocks.

    Args:
        make_queries: batch number -> this host's share of its queries.
        propose: (queries, their embeddings [batch, dim], index) -> candidates, int32 [batch, n].
        join: (queries, candidates, index) -> the batch, not yet split over the devices.
        state: from `state()` of an earlier stream, or empty.
    """

    def __init__(
        self,
        make_queries: Callable[[int], Queries],
        propose: Callable[[Queries, np.ndarray, LoadedIndex], np.ndarray],
        join: Callable[[Queries, np.ndarray, LoadedIndex], Any],
        index: CurrentIndex | FixedIndex,
        config: Config,
        state: dict,
    ):
        self._make_queries, self._propose, self._join = make_queries, propose, join
        self._index, self._timeout_s = index, config.index.wait_timeout_s
        self._embed = parallel.device_map(
            lambda params, tokens: embedder.embed(config.model, params["embedder"], "query", tokens)
        )
        self._threads = ThreadPoolExecutor(2)
        self._taken = self._asked = state.get("position", 0)  # batches handed out; queries asked for
        self._queries = self._ask()
        self._pending: Future | None = None
        if "candidates" in state:
            candidates = np.array(state["candidates"], np.int32)
            self._pending = self._threads.submit(self._resume, self._queries, candidates, self._index.loaded)
            self._queries = self._ask()
        self._retrieval_wait_s = 0.0

    def take(self, params: dict) -> Any:
        """The next batch, and the start of the retrieval of the one after it with `params`."""
        if self._pending is None:
            self._pending = self._retrieve_next(params)
        self._wait_for_batch(params)
        batch, _ = self._pending.result()
        self._taken += 1
        self._index.adopt(self._taken)
        self._pending = self._retrieve_next(params)
        return batch

    def _wait_for_batch(self, params: dict) -> None:
        """Waits for the retrieval in flight; counts only the time in which the devices had nothing left to do."""
        last_output = jax.tree.leaves(params)[0]
        deadline = time.monotonic() + self._timeout_s
        while not self._pending.done():
            started, idle = time.monotonic(), last_output.is_ready()
            wait([self._pending], timeout=TICK_S)
            if idle:
                self._retrieval_wait_s += time.monotonic() - started
            if started > deadline:
                raise RunError(f"retrieval for batch {self._taken} took over {self._timeout_s:.0f} s")

    def state(self) -> dict:
        """The position of the last batch taken and the candidates of the next, which the weights before it chose."""
        if self._pending is None:
            return {"position": self._taken}
        _, candidates = self._pending.result(timeout=self._timeout_s)
        return {"position": self._taken, "candidates": hosts.join_shares(candidates).tolist()}

    def metrics(self) -> dict[str, float]:
        """What the index says of itself, and seconds since the last call that training waited for retrieval."""
        retrieval_wait_s, self._retrieval_wait_s = self._retrieval_wait_s, 0.0
        return {"retrieval_wait_seconds": retrieval_wait_s, **self._index.metrics(self._taken)}

    def _retrieve_next(self, params: dict) -> Future:
        queries = self._queries.result()
        query_emb = self._embed(params, parallel.shard(queries.query))  # dispatched before the step donates params
        future = self._threads.submit(self._retrieve, queries, query_emb, self._index.loaded)
        self._queries = self._ask()
        return future

    def _ask(self) -> Future:
        self._asked += 1
        return self._threads.submit(self._make_queries, self._asked - 1)

    def _retrieve(self, queries: Queries, query_emb: jax.Array, index: LoadedIndex) -> tuple:
        query_emb = np.asarray(query_emb).reshape(-1, query_emb.shape[-1])
        candidates = self._propose(queries, query_emb, index)
        return parallel.shard(self._join(queries, candidates, index)), candidates

    def _resume(self, asked: Future, of_all: np.ndarray, index: LoadedIndex) -> tuple:
        queries = asked.result()
        # The devices may be others than they were, and so the rows of padding, which come last and repeat one row.
        rows = np.minimum(np.arange(len(queries.query.ids) * hosts.this().count), len(of_all) - 1)
        candidates = hosts.share(of_all[rows])
        return parallel.shard(self._join(queries, candidates, index)), candidates

    def close(self) -> None:
        """Stops the threads."""
        self._threads.shutdown(cancel_futures=True)
        self._index.close()


def drop_source(found: np.ndarray, source_hash: np.ndarray, knowledge: Corpus) -> np.ndarray:
    """Prohibits trivial retrieval (§3.4): takes each query's own block out of what was found for it.

    Args:
        found: int [batch, k] of block ordinals by rank, -1 where none.
        source_hash: uint64 [batch]: content hash of each query's block, so that X and Z may be different corpora.

    Returns:
        int32 [batch, k]: the others in their order, then -1.
    """
    own = (knowledge.block_hashes(found) == source_hash[:, None]) | (found < 0)
    order = np.argsort(own, axis=1, kind="stable")
    return np.where(np.take_along_axis(own, order, 1), -1, np.take_along_axis(found, order, 1)).astype(np.int32)
