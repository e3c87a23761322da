"""Which parameters a phase starts from: the phase before it in the workdir, else the config's `init`."""

import jax

from realm_jax.checkpoints import Checkpoints
from realm_jax.config import ConfigError
from realm_jax.data.prepare import first_weights
from realm_jax.models import pretrained
from realm_jax.workdir import Workdir


def first_params(workdir: Workdir) -> dict:
    """Parameters `{"embedder", "encoder"}` of `init`, on the host."""
    config = workdir.config
    params, missing = pretrained.init_params(config.model, first_weights(workdir), config.seed)
    if missing:
        print(f"init {config.init} has no weights for {', '.join(missing)}: they start at random", flush=True)
    return params


def warm_params(workdir: Workdir) -> dict:
    """Parameters that pre-training starts from: the embedder after ICT, the encoder after its warm-up."""
    params = first_params(workdir)
    if workdir.config.ict.steps:
        params.update(last_params(workdir, "ict", {"embedder": params["embedder"]}))
    if workdir.config.pretrain.encoder_warmup_steps:
        params.update(last_params(workdir, "warmup", {"encoder": params["encoder"]}))
    return params


def last_params(workdir: Workdir, phase: str, like: dict) -> dict:
    """Parts of the parameters from a finished phase's last checkpoint, on the host.

    Args:
        like: trees of the same structure.

    Raises:
        ConfigError: the phase is not done.
    """
    if not workdir.is_done(phase):
        command = "pretrain" if phase == "warmup" else phase
        raise ConfigError(
            f"{workdir.path} has no finished {phase} phase: "
            f"run python -m realm_jax.training.{command} --workdir={workdir.path}"
        )
    with Checkpoints(workdir.phase(phase), read_only=True) as checkpoints:
        restored = checkpoints.restore_params(checkpoints.latest_step(), like)
    return jax.device_get(restored)
