"""Warm-starts the embedder by the inverse cloze task.

realm ict --config=experiments/nano.py --workdir=W
"""

from realm_jax.commands import cli
from realm_jax.paths import quoted


def main(argv: list[str] | None = None) -> None:
    """Entry point."""
    workdir = cli.new_workdir("Warm-start the embedder by the inverse cloze task.", argv)
    from realm_jax.training import ict, phases
    from realm_jax.training.only_trainer import only_trainer

    cli.start_jax()
    with only_trainer(workdir.trainer_lock):
        workdir.refuse_overwritten()
        ict.train(workdir, phases.prepare_run(workdir))
    print(f"next: realm pretrain --workdir={quoted(workdir.path)}", flush=True)
