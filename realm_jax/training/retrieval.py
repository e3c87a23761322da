"""Batches with retrieved blocks: retrieval for batch t+1 overlaps the training step on batch t.

The queries of the next batch are embedded with the weights from before the current step, dispatched just ahead of it
(so no copy of the weights is needed, though the step donates them); search and gathering then run on a thread. The
index only proposes candidates: the step scores them afresh. A checkpoint keeps the candidates in flight, so that a
restart trains on the same batches as an unbroken run with the same index versions. Of several processes each retrieves
for its own share of the batch, in the same version (`index.current`).
"""

import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Float, Int

from realm_jax import parallel, processes
from realm_jax.background import Background
from realm_jax.batches import Tokens
from realm_jax.config import Config, RunError
from realm_jax.data.corpus import Corpus
from realm_jax.index.current import CurrentIndex, FixedIndex
from realm_jax.index.loaded_index import LoadedIndex
from realm_jax.index.own_versions import OwnVersions, version_for
from realm_jax.index.recorded import RecordedIndex
from realm_jax.index.store import IndexStore
from realm_jax.models import embedder
from realm_jax.training.loop import Task
from realm_jax.training.room import Room

TICK_S = 0.002  # resolution of the time waited for retrieval


class RetrievalTask(Task):
    """A task whose stream retrieves from an index, of which it may build the versions itself.

    Args:
        store: index versions to retrieve from.
        refresh_every: steps between index versions; 0 where the index stays as it is.
        own: those that the trainer builds; None where a builder process does, or nobody.
    """

    def __init__(self, store: IndexStore, refresh_every: int, own: OwnVersions | None):
        self._store, self._refresh_every, self._own = store, refresh_every, own

    def refreshes_index_at(self, step: int) -> bool:
        """Whether an index version of the weights after `step` steps is due."""
        return bool(step and self._refresh_every) and step % self._refresh_every == 0

    def builds_index_at(self, step: int) -> bool:
        """A version is built here where the index is due and this process is its own builder."""
        return self._own is not None and self.refreshes_index_at(step)

    def build_index(self, step: int, params: Any) -> None:
        """Embeds the knowledge corpus with the block tower of `params`; all processes share the blocks."""
        newest = self._store.latest(step)
        if newest is None or newest.step != step:
            self._own.build(step, jax.device_get(parallel.unreplicate(params["embedder"])))

    def mend_index(self, step: int) -> None:
        """Sees to it that the version that training goes on with after `step` is there, if it is an own one."""
        if self._own is not None:
            self._own.mend(version_for(step, self._refresh_every))

    def current_index(self, corpus: Corpus, config: Config, step: int, search: str = "") -> CurrentIndex:
        """The index that training goes on with after `step`; arguments as there."""
        own_every = self._refresh_every if self._own is not None else 0
        return CurrentIndex(self._store, corpus, config, step, search=search, own_every=own_every)


@runtime_checkable
class Queries(Protocol):
    """What is retrieved for: masked sentences, or questions."""

    query: Tokens
    """[batch, tokens]"""


class RetrievalStream:
    """The stream (see `training.loop.Stream`) of batches of queries with their blocks.

    Args:
        make_queries: batch number -> this process's share of its queries.
        propose: (queries, their embeddings [batch, dim], index) -> candidates, int32 [batch, n].
        join: (queries, candidates, index) -> the batch, neither packed nor split over the devices.
        room: packs it.
        state: from `state()` of an earlier stream, or empty.
    """

    def __init__(
        self,
        make_queries: Callable[[int], Queries],
        propose: Callable[[Queries, Float[np.ndarray, "batch dim"], LoadedIndex], Int[np.ndarray, "batch n"]],
        join: Callable[[Queries, Int[np.ndarray, "batch n"], LoadedIndex], Any],
        index: CurrentIndex | FixedIndex | RecordedIndex,
        room: Room,
        config: Config,
        state: dict,
    ):
        self._make_queries, self._propose, self._join, self._room = make_queries, propose, join, room
        self._index, self._timeout_s = index, config.index.wait_timeout_s
        self._embed = parallel.on_local_devices(
            lambda params, tokens: embedder.embed(config.model, params["embedder"], "query", tokens)
        )
        self._threads = Background("retrieval", self._timeout_s, threads=2)
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
        batch, _ = self._threads.result(self._pending)
        self._index.adopt(self._taken + 1)  # may be ended by a signal, as if nothing was taken
        self._taken += 1
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
        _, candidates = self._threads.result(self._pending)
        of_all = processes.join_shares(candidates).tolist()
        return {"position": self._taken, "candidates": of_all, "sizes": self._room.sizes_before}

    def metrics(self) -> dict[str, float]:
        """What index and room say of themselves, and seconds since the last call that training waited for retrieval."""
        retrieval_wait_s, self._retrieval_wait_s = self._retrieval_wait_s, 0.0
        index = self._index.metrics(self._taken)
        return {"retrieval_wait_seconds": retrieval_wait_s, "fill": self._room.fill, **index}

    def _retrieve_next(self, params: dict) -> Future:
        queries = self._threads.result(self._queries)
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
        return self._batch(queries, candidates, index), candidates

    def _resume(self, asked: Future, of_all: np.ndarray, index: LoadedIndex) -> tuple:
        queries = self._threads.result(asked)
        # The devices may be others than they were, and so the rows of padding, which come last and repeat one row.
        rows = np.minimum(np.arange(len(queries.query.ids) * processes.this().count), len(of_all) - 1)
        candidates = processes.share(of_all[rows])
        return self._batch(queries, candidates, index), candidates

    def _batch(self, queries: Queries, candidates: np.ndarray, index: LoadedIndex) -> Any:
        return parallel.shard(self._room.pack(self._join(queries, candidates, index)))

    def close(self) -> None:
        """Stops the threads."""
        self._threads.close()
        self._index.close()
