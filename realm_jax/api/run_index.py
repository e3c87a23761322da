"""The index of an opened run."""

from realm_jax.index.store import IndexStore
from realm_jax.inference.results import IndexVersion, Results
from realm_jax.workdir import Workdir


class RunIndex:
    """The run's own index: versions, each made with the retriever's weights of one training step."""

    def __init__(self, workdir: Workdir):
        self._store = IndexStore(workdir.index_folder)

    def versions(self) -> Results[IndexVersion]:
        """The versions on disk, the newest last; none before the first."""
        return Results(
            IndexVersion(
                name=version.name,
                step=version.step,
                blocks=version.manifest["num_blocks"],
                built=version.manifest["finished"],
                seconds=version.manifest["seconds"],
                recall=version.manifest.get("probe", {}),
            )
            for version in self._store.versions()
        )

    def history(self) -> list[dict]:
        """What happened: versions that were published, adopted by the trainer or pruned, the oldest event first."""
        return self._store.history()
