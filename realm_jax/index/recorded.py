"""The index of a run that is repeated: which version was in use is read from the history of the first time."""

from realm_jax.config import Config, ConfigError
from realm_jax.data.corpus import Corpus
from realm_jax.index.loaded_index import LoadedIndex, load
from realm_jax.index.store import IndexStore


def adoptions(events: list[dict]) -> dict[int, int]:
    """Step of the version in use, by the step of the trainer from which on it was, ascending.

    Args:
        events: of the index's history, oldest first.
    """
    used: dict[int, int] = {}
    for event in events:
        if event["event"] == "adopted":
            # A restart has the batch in flight, which the version before had chosen, and forgets what came after it.
            first = event["trainer_step"] + bool(event.get("at_start") and event["trainer_step"])
            used = {step: version for step, version in used.items() if step < first} | {first: event["step"]}
    return used


class RecordedIndex:
    """As `CurrentIndex`, with the versions of a record, of which it begins with the one that `step` had.

    Args:
        used: of `adoptions`.
    """

    def __init__(self, store: IndexStore, corpus: Corpus, config: Config, used: dict[int, int], step: int):
        self._store, self._corpus, self._config, self._used = store, corpus, config.index, used
        self.loaded = self._load(used[max(first for first in used if first <= step)])

    def adopt(self, trainer_step: int) -> bool:
        """Switches to another version where the record does. True if it switched."""
        if trainer_step in self._used:
            self.loaded = self._load(self._used[trainer_step])
        return trainer_step in self._used

    def _load(self, step: int) -> LoadedIndex:
        version = self._store.latest(step)
        if version is None or version.step != step:
            raise ConfigError(f"{self._store.folder} lacks the version of step {step}: begin again in another folder")
        return load(version, self._corpus, self._config, self._config.search)

    def metrics(self, trainer_step: int) -> dict[str, float]:
        """Version and age of the index."""
        step = self.loaded.version.step
        return {"index_step": float(step), "index_age_steps": float(trainer_step - step)}

    def close(self) -> None:
        """Does nothing: it has no thread and no pin."""
