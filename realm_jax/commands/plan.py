"""Says what a run needs and costs on given hardware, before it begins: memory, FLOPs, hours, disk.

    realm plan --config=experiments/base_wikipedia.py --hardware=v3-8 --blocks=13353718
    realm plan --config=experiments/nano.py --hardware=cpu --corpus=runs/nano/corpus --measure

Every setting of the experiment can be given as well, so that a smaller batch is planned before it is tried. It needs no
accelerator, and no JAX unless it measures.
"""

import contextlib
import dataclasses
import json
import sys
from typing import Annotated

import tyro
from etils import epath
from rich.console import Console
from rich.table import Table as RichTable

from realm_jax import console
from realm_jax.commands import cli
from realm_jax.config import Config, ConfigError
from realm_jax.experiments_file import load_experiment
from realm_jax.plan import corpus_size, hardware, plan_table, planned
from realm_jax.report import Table


@dataclasses.dataclass(frozen=True)
class _Flags:
    settings: Annotated[Config, tyro.conf.arg(name=""), tyro.conf.FlagConversionOff]
    config: cli.PathFlag = cli.DEFAULT_EXPERIMENT
    """Experiment file whose get_config() the other flags override."""
    hardware: str = ""
    """What it runs on: v3-8, v4-8, v4-32, v5e-8, v5p-8, v6e-8, a100x8, h100x8, h200, or cpu (the default: this one)."""
    corpus: cli.PathFlag = ""
    """Folder of the built knowledge corpus (default: the experiment's, if it is one)."""
    blocks: int | None = None
    """Number of blocks, where no corpus is built yet (realm corpus --dry_run estimates it)."""
    questions: int = planned.QUESTIONS
    """Questions that fine-tuning trains on."""
    utilization: float | None = None
    """Share of its peak that a device is assumed to sustain (default: 0.4, of a CPU 0.7)."""
    measure: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Take ten real steps of each phase, or three seconds of them, on this machine instead of the assumption."""
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Print all figures as JSON."""


def main(argv: list[str] | None = None) -> None:
    """Entry point."""
    argv = sys.argv[1:] if argv is None else argv
    # What is logged on the way must not get between the figures of a script.
    with contextlib.redirect_stdout(sys.stderr if "--json" in argv else sys.stdout):
        flags = _flags(argv)
        plan = _planned(flags)
    if flags.json:
        print(json.dumps(plan_table.as_json(plan), indent=1))
        return
    screen = Console(width=None if console.is_live() else console.WIDTH)
    for line in plan_table.lines(plan):
        screen.print(line, markup=False, highlight=False)
    for table in plan_table.tables(plan):
        screen.print(_shown(table))


def _planned(flags: _Flags) -> planned.Plan:
    config = flags.settings.check()
    if flags.utilization is not None and not 0 < flags.utilization <= 1:
        raise ConfigError(f"--utilization={flags.utilization} must lie in (0, 1]: 0.4 is usual, 0.7 on a CPU")
    if flags.questions < 1 or (flags.blocks is not None and flags.blocks < 1):
        raise ConfigError("--blocks and --questions must be positive")
    if flags.blocks and flags.corpus:
        raise ConfigError("--blocks is for a corpus that is not built yet: drop it, or drop --corpus")
    if flags.measure and flags.hardware:
        raise ConfigError("--measure takes its steps on this machine: drop --hardware")
    machine = None if flags.measure else hardware.named(flags.hardware or hardware.CPU)
    size, measured = _corpus(flags, config), {}
    if machine is None:
        from realm_jax.training.measured_step import measured_steps, this_machine

        cli.start_jax()
        machine, measured = this_machine(), measured_steps(config, size.means)
    return planned.plan(
        config, size, machine, utilization=flags.utilization, measured=measured, questions=flags.questions
    )


def _flags(argv: list[str]) -> _Flags:
    default = load_experiment(cli.early_path(argv, "--config") or cli.DEFAULT_EXPERIMENT)
    return tyro.cli(_Flags, description=__doc__, args=argv, default=_Flags(settings=default))


def _corpus(flags: _Flags, config: Config) -> corpus_size.CorpusSize:
    if flags.blocks:
        return corpus_size.assumed(flags.blocks, config.corpus.block_len_tokens)
    folder = flags.corpus or config.corpus.knowledge
    if not (epath.Path(folder) / "manifest.json").exists():
        raise ConfigError(
            f"{folder}: no corpus is built here: pass --corpus=FOLDER of one, or --blocks=N (realm corpus --dry_run "
            "estimates it)"
        )
    return corpus_size.of_folder(folder)


def _shown(table: Table) -> RichTable:
    shown = RichTable(box=None, pad_edge=False)
    for name in table.header:
        shown.add_column(name, justify="left" if name in table.words else "right")
    for row in table.rows:
        shown.add_row(*row)
    return shown
