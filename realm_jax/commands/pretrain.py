"""Pre-trains REALM.

realm pretrain --workdir=W          (and beside it: realm builder --workdir=W)
"""

from realm_jax.commands import cli
from realm_jax.paths import quoted


def main(argv: list[str] | None = None) -> None:
    """Entry point."""
    workdir = cli.new_workdir("Pre-train REALM.", argv)
    from realm_jax.training import phases, pretrain
    from realm_jax.training.only_trainer import only_trainer

    cli.start_jax()
    with only_trainer(workdir.trainer_lock):
        workdir.refuse_overwritten()
        pretrain.train(workdir, phases.prepare_run(workdir))
    print(f"next: realm run --workdir={quoted(workdir.path)}   (writes summary and report)", flush=True)
