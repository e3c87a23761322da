"""The newest pre-trained parameters of a run, also while it trains; they are loaded once."""

from realm_jax.checkpoints import Checkpoints
from realm_jax.config import CONVERTED
from realm_jax.models.pretrained import PARTS
from realm_jax.models.shapes import shapes
from realm_jax.training import phases
from realm_jax.workdir import Workdir


class NewestParams:
    """The parameters `embedder` and `encoder` of a workdir."""

    def __init__(self, workdir: Workdir):
        self._workdir = workdir
        self._checkpoints: Checkpoints | None = None
        self._loaded: tuple[int, dict] = (-1, {})

    def step(self) -> int | None:
        """Pre-training step of the newest checkpoint; 0 for converted parameters, None while there are none."""
        folder = self._workdir.phase("pretrain")
        if self._checkpoints is None and (folder / "checkpoints").exists():
            self._checkpoints = Checkpoints(folder, read_only=True)
        step = self._checkpoints.latest_step() if self._checkpoints else None
        is_converted = self._workdir.config.init == CONVERTED
        if step is None and is_converted and set(PARTS) <= set(phases.converted_parts(self._workdir)):
            return 0
        return step

    def load(self, step: int) -> dict:
        """The parameters of a step that `step()` gave, on the host."""
        if self._loaded[0] != step:
            self._loaded = step, self._restore(step)
        return self._loaded[1]

    def _restore(self, step: int) -> dict:
        if self._checkpoints is None or self._checkpoints.latest_step() is None:
            return phases.first_params(self._workdir)
        like = {part: shapes(part, self._workdir.config.model) for part in PARTS}
        return self._checkpoints.restore_params(step, like)

    def close(self) -> None:
        """Stops Orbax's threads."""
        if self._checkpoints is not None:
            self._checkpoints.close()
