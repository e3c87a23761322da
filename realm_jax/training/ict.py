"""Warm-starts the embedder by the inverse cloze task.

python -m realm_jax.training.ict --config=experiments/nano.py --workdir=W
"""

from typing import TYPE_CHECKING

from realm_jax import cli
from realm_jax.paths import quoted
from realm_jax.workdir import Workdir

if TYPE_CHECKING:
    from realm_jax.data.prepare import RunData


def train(workdir: Workdir, data: "RunData") -> None:
    """Trains, or goes on from the last checkpoint; does nothing once the phase is done."""
    from realm_jax import parallel, processes
    from realm_jax.training import loop, phases
    from realm_jax.training.ict_task import IctTask

    config = workdir.config
    if workdir.is_done("ict") or not config.ict.steps:
        return
    parallel.set_up_compilation_cache()
    loop.run(IctTask(config, data, phases.first_params(workdir, ("embedder",))), workdir.phase("ict"))
    processes.on_first(lambda: workdir.mark_done("ict", config.ict.steps))


def main(argv: list[str] | None = None) -> None:
    """Entry point."""
    workdir = cli.new_workdir("Warm-start the embedder by the inverse cloze task.", argv)
    from realm_jax.training import phases

    with phases.only_trainer(workdir):
        train(workdir, phases.prepare_run(workdir))
    print(f"next: python -m realm_jax.training.pretrain --workdir={quoted(workdir.path)}", flush=True)


def command() -> None:
    """Console script."""
    cli.run(main)


if __name__ == "__main__":
    command()
