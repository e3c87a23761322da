"""The index builder: embeds the corpus from the trainer's newest checkpoint and publishes index versions.

    realm builder --workdir=W
    realm builder --workdir=W --finetuning=NAME      (a fine-tuning whose block tower learns)

It is a process of its own beside the trainer, and may be killed at any time and started again. Started several times,
on one machine with a GPU for each or on several machines, the processes share the blocks of each version.
"""

import dataclasses
import os

import tyro

from realm_jax import console, signals
from realm_jax.commands import cli
from realm_jax.config import Config, ConfigError


@dataclasses.dataclass(frozen=True)
class _Flags:
    workdir: cli.PathFlag = ""
    """Folder of the run (default: the newest under runs/)."""
    finetuning: str = ""
    """Follow this fine-tuning, begun with --finetune.train_retriever=both, instead of pre-training."""


def main(argv: list[str] | None = None) -> None:
    """Entry point."""
    signals.end_with_parent()
    flags = tyro.cli(_Flags, description="Keep the index of a run fresh.", args=argv)
    workdir = cli.existing(flags.workdir)
    console.set_up(console.BUILDER)
    yield_cores(workdir.config)
    choose_device(workdir.config)
    cli.start_jax()
    from realm_jax.heartbeat import Heartbeat
    from realm_jax.index import follow_trainer

    served = workdir.phase(f"finetune/{flags.finetuning}") if flags.finetuning else workdir.path
    with Heartbeat(served / "index", of_many=True, role="index builder"):
        follow_trainer.follow(workdir, finetuning=flags.finetuning)
    print(f"{console.BUILDER}training is done and indexed", flush=True)


def yield_cores(config: Config) -> None:
    """Lowers this process's priority and its share of cores; must run before JAX starts its threads."""
    if config.index.builder_nice:
        os.nice(config.index.builder_nice)
    if config.index.builder_threads and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))[-config.index.builder_threads :]
        os.sched_setaffinity(0, cores)


def choose_device(config: Config) -> None:
    """Makes JAX use the device of index.device. Raises ConfigError if it is not there."""
    import jax

    if config.index.device == "inline":
        raise ConfigError("index.device=inline: the trainer builds the index itself; no builder is needed")
    if config.index.device == "cpu":
        jax.config.update("jax_platforms", "cpu")
    backend = jax.default_backend()
    if (backend == "cpu") != (config.index.device == "cpu"):
        raise ConfigError(
            f"index.device={config.index.device}, but JAX runs on {backend} here: install the accelerator's jax, give "
            "this process chips of its own (TPU_VISIBLE_CHIPS), or make a run with --index.device=cpu"
        )
