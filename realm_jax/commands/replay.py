"""Repeats a run's pre-training with the index versions that it used, and compares the parameters, bit by bit.

    realm replay --workdir=W

A builder beside the trainer publishes versions when it can, so that two runs of one config differ. Each run records
from which step on it used which version: this command trains again by that record, in one process, from the run's own
warm start and on its corpus as it is now. It fails if an array differs, as it does where `realm update` has changed the
corpus, on other hardware or with another number of devices. The same command goes on with a replay that was broken off;
its folder, which keeps all index versions that the run used, may be deleted afterwards.
"""

import dataclasses

import tyro
from etils import epath

from realm_jax.commands import cli
from realm_jax.config import ConfigError, RunError

MOST_NAMED = 5


@dataclasses.dataclass(frozen=True)
class _Flags:
    workdir: cli.PathFlag = ""
    """Folder of the run (default: the newest under runs/)."""
    into: cli.PathFlag = ""
    """Folder of the replay (default: replay in the workdir)."""
    steps: int = 0
    """Step to compare at, one that the run has saved (default: the last)."""


def main(argv: list[str] | None = None) -> None:
    """Entry point."""
    flags = tyro.cli(_Flags, description="Repeat a run's pre-training by its record of index versions.", args=argv)
    if flags.steps < 0:
        raise ConfigError(f"--steps={flags.steps}: pass a step that the run has saved")
    workdir = cli.existing(flags.workdir)
    folder = epath.Path(flags.into) if flags.into else workdir.path / "replay"
    from realm_jax.training.only_trainer import only_trainer
    from realm_jax.training.phases import saved_params
    from realm_jax.training.replay import differing, replay

    cli.start_jax()
    steps, theirs = saved_params(workdir, "pretrain", step=flags.steps or None)
    folder.mkdir(parents=True, exist_ok=True)
    with only_trainer(folder / "trainer.lock"):
        ours = replay(workdir, folder, steps)
    if different := differing(ours, theirs):
        some = ", ".join(different[:MOST_NAMED]) + (", …" if len(different) > MOST_NAMED else "")
        raise RunError(f"{len(different)} arrays differ after {steps:,} steps ({some}): {folder} has the replay")
    print(f"the same bits in all arrays after {steps:,} steps; {folder} may be deleted", flush=True)
