"""A run at one moment: its parameters, index version and fine-tuning, the newest or named ones."""

import functools
from collections.abc import Callable
from typing import NamedTuple

from realm_jax.config import CONVERTED, Config, ConfigError
from realm_jax.data.prepare import RunData, open_prepared
from realm_jax.data.questions import cloze
from realm_jax.index.loaded_index import LoadedIndex, open_exact
from realm_jax.index.store import IndexStore
from realm_jax.index.version import Version
from realm_jax.inference.answered import Answered
from realm_jax.inference.ask import ask
from realm_jax.inference.fill import MaskFiller
from realm_jax.inference.filled import Filled
from realm_jax.inference.newest_params import NewestParams
from realm_jax.inference.results import Refused, Source
from realm_jax.openqa.predict import Answerer
from realm_jax.openqa.retriever import Retriever
from realm_jax.training.best_params import BestParams
from realm_jax.training.finetune_task import METRIC
from realm_jax.training.finetuning import Finetuning, finetunings, how_to_finetune
from realm_jax.workdir import Workdir


class Key(NamedTuple):
    """Identifies everything that a state is made from."""

    step: int | None
    """Pre-training step of the parameters that fill blanks; None while there are none."""
    finetuning: str
    """Name of the fine-tuning that answers questions; empty if there is none."""
    best: int | None
    """Step of the fine-tuning's best parameters; None for converted ones."""
    versions: tuple[str | None, ...]
    """Names of the index versions: the run's, and the fine-tuning's own."""


class State:
    """The models of a run at one moment. It never changes; each model is loaded when it is first needed.

    Args:
        version: name of the run's index version to search; the newest by default.

    Raises:
        ConfigError: there is no such version, or a file is damaged.
    """

    def __init__(self, workdir: Workdir, key: Key, params: Callable[[int], dict], tuned: Callable, version: str = ""):
        self.key, self._workdir, self._load_params, self._load_tuned = key, workdir, params, tuned
        self._wants_version = bool(version)
        store = IndexStore(workdir.index_folder)
        self.version = _pin_named(store, version) if version else store.pin_latest()
        self.pinned: list[tuple[IndexStore, Version]] = [(store, self.version)] if self.version else []
        """The index versions that it uses, which it has pinned, and their stores."""
        self._finetuning = Finetuning.open(workdir, key.finetuning) if key.finetuning else None
        own = IndexStore(self._finetuning.folder / "index") if self._finetuning else None
        self._own_version = own.pin_latest() if own else None
        if self._own_version is not None:
            self.pinned.append((own, self._own_version))

    @functools.cached_property
    def data(self) -> RunData:
        """The corpora: opened after the version was pinned, so that they have all of its blocks."""
        return open_prepared(self._workdir)

    def fill(self, text: str) -> Filled:
        """Fills every [MASK] of a text. Raises Refused if the run cannot do so yet."""
        if self.filler is None:
            why = nothing_to_search(self._workdir)
            if self.version is not None and self._workdir.config.init == CONVERTED:
                why = "This run has no pre-trained encoder (it was converted without one), so it fills no blanks."
            raise Refused(why)
        return self.filler.fill(text)

    def ask(self, text: str) -> Answered:
        """Answers a question. Raises Refused if the run is not fine-tuned yet."""
        if self.answerer is None:
            how = how_to_finetune(self._workdir, "cloze")
            raise Refused(f"This run is not fine-tuned yet, so it answers no questions: {how}")
        return ask(self.answerer, text, self.answerer_source)

    @functools.cached_property
    def filler(self) -> MaskFiller | None:
        """Fills blanks; None where the run has no index or no encoder yet."""
        if self.filler_source is None or self.key.step is None:
            return None
        return MaskFiller(self._workdir.config, self.data, self.params, self._index, self.filler_source)

    @functools.cached_property
    def params(self) -> dict:
        """`embedder` and `encoder` of pre-training, on the host."""
        return self._load_params(self.key.step)

    @functools.cached_property
    def answerer(self) -> Answerer | None:
        """Answers questions; None where the run is not fine-tuned."""
        return self._answerer[0] if self._answerer else None

    @property
    def retriever(self) -> Retriever | None:
        """Searches: by the fine-tuning if there is one, unless another index version of the run is wanted."""
        by = self.filler if self._wants_version else self.answerer or self.filler
        return by.retriever if by else None

    @functools.cached_property
    def filler_source(self) -> Source | None:
        """Where the filled blanks come from."""
        if self.version is None or self.key.step is None:
            return None
        age = self.key.step - self.version.step
        return _source(self.version, self.data, f"pretrain, step {self.key.step}", age)

    @functools.cached_property
    def answerer_source(self) -> Source | None:
        """Where the answers come from."""
        if self._answerer is None:
            return None
        best = f", step {self.key.best}" if self.key.best else ""
        return _source(self._answerer[1], self.data, f"finetune/{self.key.finetuning}{best}", None)

    @functools.cached_property
    def _index(self) -> LoadedIndex:
        return open_exact(self.version, self.data.knowledge)

    @functools.cached_property
    def _answerer(self) -> tuple[Answerer, Version] | None:
        finetuning = self._finetuning
        if finetuning is None:
            return None
        params = self._load_tuned(self.key, finetuning)
        store = finetuning.index_store(self.data, params)
        version = self.version if store.folder == self._workdir.index_folder else self._own_version
        if version is None:  # its own, built just now
            version = store.pin_latest()
            self.pinned.append((store, version))
        if finetuning.config.finetune.train_retriever == "both":
            index = finetuning.index_of(self.data, params, store)  # made anew, as for an evaluation
        elif self.version is not None and version.folder == self.version.folder:
            index = self._index
        else:
            index = open_exact(version, self.data.knowledge)
        pairs = finetuning.config.finetune.inference_blocks
        return Answerer(finetuning.config, self.data, params, index, pairs=pairs), version

    def warm_up(self) -> None:
        """Loads everything and answers a request of each kind, so that users wait for no compilation.

        Raises:
            ConfigError: there is nothing to answer with.
        """
        if self.filler is not None:
            self.filler.fill("[MASK]")
        if self.answerer is not None:
            ask(self.answerer, "?")
        if self.filler is None and self.answerer is None:
            raise ConfigError(nothing_to_search(self._workdir))

    def pin(self) -> None:
        """Renews the pins."""
        for store, version in self.pinned:
            store.pin(version)

    def unpin(self, but: "State | None" = None) -> None:
        """Gives up the pins, except for versions that another state uses."""
        kept = {version.folder for _, version in but.pinned} if but else set()
        for store, version in self.pinned:
            if version.folder not in kept:
                store.unpin(version)


class Loader:
    """Finds what is newest in a run, and keeps the parameters that were loaded last.

    Args:
        finetuning: name of the fine-tuning that answers questions; the newest by default.
        version: name of the run's index version to search; the newest by default.

    Raises:
        ConfigError: there is no such fine-tuning.
    """

    def __init__(self, workdir: Workdir, finetuning: str = "", version: str = ""):
        self._workdir, self._wanted, self._version = workdir, finetuning, version
        if finetuning and finetuning not in finetunings(workdir):
            known, how = ", ".join(finetunings(workdir)) or "none", how_to_finetune(workdir, finetuning)
            raise ConfigError(f"{workdir.path} has no evaluated fine-tuning {finetuning} (it has: {known}): {how}")
        self._params = NewestParams(workdir)
        self._tuned: tuple[Key | None, dict] = (None, {})

    def key(self) -> Key:
        """The key of the newest state; it changes whenever there is something new to load."""
        known = finetunings(self._workdir)
        name = self._wanted or (known[-1] if known else "")
        best, folders = None, [self._workdir.index_folder]
        if name:
            folder = Finetuning.open(self._workdir, name).folder
            best = BestParams(folder, METRIC).step
            folders.append(folder / "index")
        newest = [IndexStore(folder).latest() for folder in folders]
        versions = [version and version.name for version in newest]
        if self._version:
            versions[0] = self._version
        return Key(self._params.step(), name, best, tuple(versions))

    def load(self, key: Key) -> State:
        """The state of a key."""
        return State(self._workdir, key, self._params.load, self._tuned_params, self._version)

    def _tuned_params(self, key: Key, finetuning: Finetuning) -> dict:
        if self._tuned[0] is None or self._tuned[0][1:3] != key[1:3]:
            self._tuned = key, finetuning.best_params()
        return self._tuned[1]

    def close(self) -> None:
        """Stops Orbax's threads."""
        self._params.close()


def nothing_to_search(workdir: Workdir) -> str:
    """A message that a run neither searches nor answers yet, with the command that helps."""
    return f"{workdir.path} has no checkpoint with an index yet: run realm run --workdir={workdir.path}"


def heldout_sentences(data: RunData, config: Config, count: int) -> tuple[str, ...]:
    """Held-out sentences of the corpus with a blank; none where nothing is held out."""
    try:
        return tuple(question.text for question in cloze.questions(data, config, "test", count))
    except ConfigError:
        return ()


def _pin_named(store: IndexStore, name: str) -> Version:
    for version in store.versions():
        if version.name == name and store.pin(version):
            return version
    known = ", ".join(version.name for version in store.versions()) or "none"
    raise ConfigError(f"{store.folder} has no index version {name}: pass one of those on disk ({known})")


def _source(version: Version, data: RunData, params: str, age_steps: int | None) -> Source:
    blocks = int(version.live_blocks(data.knowledge).sum())
    return Source(version.name, version.step, version.manifest["finished"], blocks, params, age_steps)
