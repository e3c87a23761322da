"""What answers requests: newest parameters, index version and fine-tuning of a run, loaded together and compiled."""

from dataclasses import dataclass
from typing import Any

from realm_jax.config import ConfigError
from realm_jax.data.prepare import RunData, open_prepared
from realm_jax.index.exact_index import ExactIndex, open_exact
from realm_jax.index.store import IndexStore
from realm_jax.index.version import Version
from realm_jax.serve.ask import QuestionAnswerer
from realm_jax.serve.fill import MaskFiller
from realm_jax.serve.newest import NewestParams
from realm_jax.serve.results import Source
from realm_jax.training.best_params import BestParams
from realm_jax.training.finetune_task import METRIC
from realm_jax.training.finetuning import Finetuning, finetunings, how_to_finetune
from realm_jax.workdir import Workdir


@dataclass(frozen=True)
class State:
    """Never changes; a part is None where the run has nothing for it yet."""

    key: tuple
    """Names of all that it was made from."""
    filler: MaskFiller | None
    filler_source: Source | None
    answerer: QuestionAnswerer | None
    answerer_source: Source | None
    pinned: tuple[tuple[IndexStore, Version], ...]
    """Index versions that it uses, pinned."""

    def unpin(self, but: "State | None" = None) -> None:
        """Gives up the pins, but for those that another state has."""
        kept = {version.folder for _, version in but.pinned} if but else set()
        for store, version in self.pinned:
            if version.folder not in kept:
                store.unpin(version)


class Loader:
    """Finds and loads what is newest.

    Args:
        finetuning: name of the one that answers questions; the newest by default.

    Raises:
        ConfigError: there is no such fine-tuning.
    """

    def __init__(self, workdir: Workdir, finetuning: str = ""):
        self._workdir, self._wanted = workdir, finetuning
        if finetuning and finetuning not in finetunings(workdir):
            known, how = ", ".join(finetunings(workdir)) or "none", how_to_finetune(workdir, finetuning)
            raise ConfigError(f"{workdir.path} has no evaluated fine-tuning {finetuning} (it has: {known}): {how}")
        self._params = NewestParams(workdir)
        self._tuned: tuple[Any, dict] = (None, {})

    def key(self) -> tuple:
        """Changes whenever there is something new to load."""
        known = finetunings(self._workdir)
        name = self._wanted or (known[-1] if known else "")
        best, folders = None, [self._workdir.index_folder]
        if name:
            folder = Finetuning.open(self._workdir, name).folder
            best = BestParams(folder, METRIC).step
            folders.append(folder / "index")
        newest = [IndexStore(folder).latest() for folder in folders]
        return self._params.step(), name, best, *(version and version.name for version in newest)

    def load(self, key: tuple) -> State:
        """The state of a key; a request of each kind has been answered, so that users wait for no compilation.

        Raises:
            ConfigError: there is nothing to answer with, or a file is damaged.
        """
        step, name, best = key[:3]
        workdir, store = self._workdir, IndexStore(self._workdir.index_folder)
        pinned: list[tuple[IndexStore, Version]] = []
        filler = filler_source = answerer = answerer_source = index = None
        version = store.pin_latest()
        data = open_prepared(workdir)  # after the version, so that it has all of its blocks
        if version is not None:
            pinned.append((store, version))
        if version is not None and step is not None:
            index = open_exact(version, data.knowledge)
            filler = MaskFiller(workdir.config, data, self._params.load(step), index)
            filler.fill("[MASK]")
            filler_source = _source(version, data, f"pretrain, step {step}", step - version.step)
        if name:
            answerer, own_store, own = self._load_answerer(name, best, data, index and (version, index))
            answerer.ask("?")
            pinned.append((own_store, own))
            answerer_source = _source(own, data, f"finetune/{name}" + (f", step {best}" if best else ""), None)
        if filler is None and answerer is None:
            raise ConfigError(
                f"{workdir.path} has no checkpoint with an index yet: run realm run --workdir={workdir.path}"
            )
        return State(key, filler, filler_source, answerer, answerer_source, tuple(pinned))

    def _load_answerer(
        self, name: str, best: int | None, data: RunData, opened: tuple[Version, ExactIndex] | None
    ) -> tuple[QuestionAnswerer, IndexStore, Version]:
        """The fine-tuning and the index version that it searches; `opened` is used again where it is the same."""
        finetuning = Finetuning.open(self._workdir, name)
        if self._tuned[0] != (name, best):
            self._tuned = (name, best), finetuning.best_params()
        params = self._tuned[1]
        store = finetuning.index_store(data, params)
        version = store.pin_latest()
        is_same = opened is not None and version.folder == opened[0].folder
        if is_same and finetuning.config.finetune.train_retriever != "both":
            index = opened[1]
        else:
            index = finetuning.exact_index(data, params, store)
        return QuestionAnswerer(finetuning.config, data, params, index), store, version

    def close(self) -> None:
        """Stops Orbax's threads."""
        self._params.close()


def _source(version: Version, data: RunData, params: str, age_steps: int | None) -> Source:
    blocks = int(version.live_blocks(data.knowledge).sum())
    return Source(version.name, version.step, version.manifest["finished"], blocks, params, age_steps)
