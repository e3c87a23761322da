"""What a phase starts from: the run's corpus, and the parameters of the phase before it, else the config's `init`."""

import logging

import jax

from realm_jax import processes
from realm_jax.checkpoints import Checkpoints
from realm_jax.config import CONVERTED, ConfigError
from realm_jax.data.prepare import RunData, first_weights, open_prepared, prepare
from realm_jax.models import pretrained
from realm_jax.models.names import Part
from realm_jax.models.pretrained import PARTS
from realm_jax.models.shapes import shapes
from realm_jax.workdir import Workdir, read_json

log = logging.getLogger(__name__)


def prepare_run(workdir: Workdir) -> RunData:
    """Joins the other processes, if any; the first one makes what the run lacks, then all open it.

    Raises:
        ConfigError: see `data.prepare.prepare`, and `models.pretrained.read_parts` for the weights of `init`, which are
            checked before a corpus is built.
    """
    processes.join()
    return processes.first_then(lambda: _make(workdir), lambda: open_prepared(workdir))


def _make(workdir: Workdir) -> RunData:
    folder = None if workdir.tokenizer_file.exists() else first_weights(workdir)
    if folder is not None:
        pretrained.read_parts(workdir.config.model, folder)
    return prepare(workdir)


def first_params(workdir: Workdir, parts: tuple[Part, ...] = PARTS) -> dict:
    """Parts of the parameters of `init`, on the host. Raises ConfigError if a converted checkpoint lacks one."""
    config = workdir.config
    if config.init == CONVERTED:
        return _converted_params(workdir, parts)
    params, missing = pretrained.init_params(config.model, first_weights(workdir), config.seed, parts)
    if missing and not workdir.is_done("pretrain"):
        log.info(f"init {config.init} {pretrained.lacks(missing)}")
    return params


def converted_parts(workdir: Workdir) -> list[str]:
    """Parts that a converted run was given: embedder, encoder, reader; none if it was not converted."""
    file = workdir.conversion_file
    return read_json(file)["parts"] if file.exists() else []


def _converted_params(workdir: Workdir, parts: tuple[Part, ...]) -> dict:
    converted = converted_parts(workdir)
    for part in parts:
        if part not in converted:
            raise ConfigError(
                f"{workdir.path} was converted without {part}: convert again with a SOURCE that holds one "
                "(realm convert --help)"
            )
    return last_params(workdir, "init", parts)


def warm_params(workdir: Workdir, parts: tuple[Part, ...] = PARTS) -> dict:
    """Parameters that pre-training starts from: the embedder after ICT, the encoder of `init`."""
    trained = tuple(part for part in parts if part == "embedder" and workdir.config.ict.steps)
    others = tuple(part for part in parts if part not in trained)
    return (last_params(workdir, "ict", trained) if trained else {}) | (first_params(workdir, others) if others else {})


def last_params(workdir: Workdir, phase: str, parts: tuple[Part, ...] = PARTS) -> dict:
    """Parts of the parameters from a finished phase's last checkpoint, on the host.

    Raises:
        ConfigError: the phase is not done.
    """
    if not workdir.is_done(phase):
        raise ConfigError(f"{workdir.path} has no finished {phase} phase: run realm {phase} --workdir={workdir.path}")
    return saved_params(workdir, phase, parts)[1]


def saved_params(
    workdir: Workdir, phase: str, parts: tuple[Part, ...] = PARTS, step: int | None = None
) -> tuple[int, dict]:
    """A step that a phase has saved, the last one by default, and parts of its parameters, on the host.

    Raises:
        ConfigError: none is saved, or not that one.
    """
    like, folder = {part: shapes(part, workdir.config.model) for part in parts}, workdir.phase(phase)
    with Checkpoints(folder, read_only=True) as checkpoints:
        found = checkpoints.latest_step() if step is None else step
        if found is None:
            raise ConfigError(f"{folder} has no checkpoint yet: train first")
        if not (folder / "checkpoints" / str(found)).exists():
            raise ConfigError(f"{folder} has no checkpoint of step {found}, or keeps it no longer")
        return found, jax.device_get(checkpoints.restore_params(found, like))
