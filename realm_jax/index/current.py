"""The index version that training searches: the newest that builders have published, or one for the whole training.

Several processes search the same version: the first one loads the newest, says which, and all switch to it at the
step at which they learn that every process has it.
"""

import logging
import threading
import time
import zlib

from realm_jax import background, faults, processes, signals
from realm_jax.checksums import Damaged
from realm_jax.config import Config, ConfigError, IndexConfig, RunError
from realm_jax.data.corpus import Corpus
from realm_jax.index.loaded_index import LoadedIndex, load
from realm_jax.index.own_versions import version_for
from realm_jax.index.store import IndexStore
from realm_jax.index.version import Version

log = logging.getLogger(__name__)

POLL_S = 0.5  # between looks for a newer index version
RENEW_PIN_S = 3600.0  # a pin counts for a day
WARN_EVERY = 100  # steps with an index past its age limit


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
        search: str = "",
        own_every: int = 0,
    ):
        """Loads the first version, and records its use from `first_step` on.

        Args:
            search: exact, or what the versions were built for; by default index.search.
            own_every: steps between versions that this trainer builds itself; 0 where a builder does, or nobody.
        """
        self._store, self._corpus, self._config = store, corpus, config
        self._kind = search or config.index.search
        self._ready: LoadedIndex | None = None
        self._error: Exception | None = None
        self._changed = threading.Condition()
        self._look, self._closed = threading.Event(), False
        self._process = processes.this()
        self._all_reduce, self._signal = processes.AllReduce(), processes.AllReduce()
        self._first_mark = 0
        """Mark of the version that the first process has loaded."""
        self._late_steps = 0
        self.waited_s = 0.0
        """Seconds that `adopt` waited for a version."""
        self._own_every = own_every
        self._up_to = self._newest_for(first_step)
        """No version of a later step is taken: a restart may find one that it has yet to reach."""
        self.loaded = self._load_first()
        self._record(first_step, at_start=True)
        self._thread = threading.Thread(target=self._follow, name="index", daemon=True)
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
        if self._late_steps % WARN_EVERY == 0:
            log.warning(f"{message}: is the builder running?")
        self._late_steps += 1
        return switched

    def _newest_for(self, trainer_step: int) -> int | None:
        """Step of the newest version that `trainer_step` may use; None, without limit, where a builder makes them."""
        return version_for(trainer_step, self._own_every) if self._own_every else None

    def _wait_for(self, oldest: int, trainer_step: int) -> None:
        """Waits until a version of step `oldest` or later is in use."""
        started, timeout_s = time.monotonic(), self._config.index.wait_timeout_s
        while self.loaded.version.step < oldest:
            if number := self._signal.reduce(signals.flagged).greatest:  # of whichever process
                raise signals.Ended(number)
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
            marks = self._all_reduce.reduce(_mark(self._ready.version) if self._ready else 0)
            self._first_mark = marks.first
            all_have_it = 0 != marks.least == marks.greatest != _mark(self.loaded.version)
            if not all_have_it:
                return False
            ready, self._ready = self._ready, None
            faults.point("adopting")
            self._store.unpin(self.loaded.version)
            self.loaded = ready
        self._record(trainer_step)
        return True

    def _record(self, trainer_step: int, **more) -> None:
        version = self.loaded.version
        if processes.is_first():
            self._store.record("adopted", version=version.name, step=version.step, trainer_step=trainer_step, **more)

    def _load_first(self) -> LoadedIndex:
        while True:
            version = common_version(self._store, self._up_to)
            damaged = None
            try:
                loaded = self._load(version)
            except Damaged as error:
                damaged = error
            if processes.least(damaged is None):  # one process that finds it damaged is enough
                return loaded
            damaged = damaged or Damaged(f"another process finds {version.folder} damaged")
            self._set_aside(version, damaged)
            if not processes.from_first(self._store.latest() is not None):
                raise Damaged(f"{damaged}; it was the only one and is set aside: the same command again builds one")

    def _set_aside(self, version: Version, damaged: Damaged) -> None:
        """Lets the version before, or a newer one, take the place; where only one will do, raises what is wrong."""
        if self._own_every:  # see `OwnVersions.mend`
            raise Damaged(f"{damaged}: the same command again does both")
        if self._process.index == 0:
            self._store.set_aside(version)
        self._store.unpin(version)
        log.warning(f"{damaged}; it is set aside, and the next best version is used")

    def _load(self, version: Version) -> LoadedIndex:
        """Loads a version, which must be pinned."""
        return load(version, self._corpus, self._config.index, self._kind)

    def _follow(self) -> None:
        known, renewed = self.loaded.version, time.monotonic()
        while not self._closed:
            try:
                if time.monotonic() - renewed > RENEW_PIN_S:
                    with self._changed:
                        self._store.pin(self.loaded.version)
                    renewed = time.monotonic()
                newest = self._next(known)
                if newest is not None and self._store.pin(newest):
                    try:
                        ready = self._load(newest)
                    except Damaged as damaged:
                        if self._process.index:  # of the first one, which others may have taken since
                            at_fault = f"{damaged}, but not as the first process reads it: run the same command again"
                            raise Damaged(at_fault) from damaged
                        self._set_aside(newest, damaged)
                        continue
                    known = ready.version
                    with self._changed:
                        if self._ready is not None:
                            self._store.unpin(self._ready.version)
                        self._ready = ready
                        self._changed.notify_all()
            except Exception as error:  # raised where training asks for the index
                with self._changed:
                    self._error = error
                    self._changed.notify_all()
                return
            self._look.wait(POLL_S)
            self._look.clear()

    def _next(self, known: Version) -> Version | None:
        """What to load after `known`: the newest version; where several processes train, the one that the first has."""
        if self._process.index:
            return None if self._first_mark in (0, _mark(known)) else _marked(self._store, self._first_mark)
        if self._process.count > 1 and self._ready:  # the others are loading it
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
        background.join(self._thread, background.CLOSE_S)
        for index in (self.loaded, self._ready):
            if index is not None:
                self._store.unpin(index.version)


def common_version(store: IndexStore, up_to: int | None = None) -> Version:
    """What `IndexStore.latest` is on the first process, pinned, on all.

    Raises:
        ConfigError: there is none.
        RunError: this process does not see it.
    """
    version = store.pin_latest(up_to) if processes.is_first() else None
    mark = processes.from_first(_mark(version) if version else 0)
    if not processes.is_first() and mark:
        version = _marked(store, mark)
        if version is None:
            raise RunError(
                f"the first process has an index version that {store.folder} lacks here: share one --workdir"
            )
        store.pin(version)
    if version is None:
        raise ConfigError(f"no index version in {store.folder}: run realm builder")
    return version


def _mark(version: Version) -> int:
    """A positive int32 by which processes know a version."""
    return 1 + zlib.crc32(version.name.encode()) % (2**31 - 2)


def _marked(store: IndexStore, mark: int) -> Version | None:
    """The version of a mark; None if this process does not see it."""
    return next((version for version in reversed(store.versions()) if _mark(version) == mark), None)


class FixedIndex:
    """One index version for a whole training, where the tower of its blocks does not learn.

    Args:
        version: of the store, pinned; the others as of `load`.
    """

    def __init__(self, store: IndexStore, version: Version, corpus: Corpus, config: IndexConfig, search: str):
        self._store, self.loaded = store, load(version, corpus, config, search)

    def adopt(self, trainer_step: int) -> bool:
        """Never switches."""
        del trainer_step
        return False

    def metrics(self, trainer_step: int) -> dict[str, float]:
        """There are none: the version never changes."""
        del trainer_step
        return {}

    def close(self) -> None:
        """Gives up the pin."""
        self._store.unpin(self.loaded.version)
