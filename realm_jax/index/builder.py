"""The index builder: embeds the corpus from the trainer's newest checkpoint and publishes index versions.

    python -m realm_jax.index.builder --workdir=W
    python -m realm_jax.index.builder --workdir=W --finetuning=NAME      (whose block tower learns)

A process of its own beside the trainer (§3.3: "asynchronous MIPS refreshes"). It takes the newest embedder checkpoint,
skips those it missed, and stops when pre-training is done and its last weights are indexed. It may be killed at any
time and started again.
"""

import dataclasses
import os

import tyro

from realm_jax import cli
from realm_jax.heartbeat import Heartbeat

PARENT = "REALM_JAX_PARENT"  # process id of the trainer that started this builder


@dataclasses.dataclass(frozen=True)
class _Flags:
    workdir: cli.PathFlag = ""
    """Folder of the run (default: the newest under runs/)."""
    finetuning: str = ""
    """Follow this fine-tuning, begun with --finetune.train_retriever=both, instead of pre-training."""


def main(argv: list[str] | None = None) -> None:
    """Entry point of `python -m realm_jax.index.builder`."""
    flags = tyro.cli(_Flags, description="Keep the index of a run fresh.", args=argv)
    workdir = cli.existing(flags.workdir)
    from realm_jax import parallel
    from realm_jax.index.follow_trainer import choose_device, follow, yield_cores

    yield_cores(workdir.config)
    choose_device(workdir.config)
    parallel.set_up_compilation_cache()
    parent = os.environ.get(PARENT)
    served = workdir.phase(f"finetune/{flags.finetuning}") if flags.finetuning else workdir.path
    with Heartbeat(served / "index", role="index builder"):
        follow(workdir, finetuning=flags.finetuning, parent=int(parent) if parent else None)
    print("index builder: training is done and indexed", flush=True)


def command() -> None:
    """Console script."""
    cli.run(main)


if __name__ == "__main__":
    command()
