"""Runs the arms of an ablation, seed by seed, and prints their table beside the paper's.

    realm ablate --seeds=0,1,2

An arm that was stopped goes on where it was; a finished one is not run again.
"""

import dataclasses
import pathlib
import re

import tyro

from realm_jax.commands import cli
from realm_jax.config import ConfigError

EXPERIMENT = "experiments/ablations.py"


@dataclasses.dataclass(frozen=True)
class _Flags:
    experiment: cli.PathFlag = EXPERIMENT
    """Experiment file whose get_arms() returns the arms."""
    corpus: cli.PathFlag = ""
    """Knowledge corpus instead of the experiment's."""
    text: cli.PathFlag = ""
    """Text of the arms that pre-train on another than the knowledge corpus, instead of the experiment's."""
    dataset: cli.PathFlag = "cloze"
    """Training questions: a named dataset, or a file of questions, a tenth of which chooses the best checkpoint."""
    test: cli.PathFlag = ""
    """Questions that the table reports on; default: the dataset's test split."""
    data_dir: cli.PathFlag = ""
    """Folder with local copies of a named dataset."""
    arms: str = ""
    """Names, separated by commas, or `all`; default: the arms that the paper measured."""
    seeds: str = "0"
    """Seeds, separated by commas."""
    out: cli.PathFlag = "runs/ablations"
    """Folder of all runs, and of the results."""


def main(argv: list[str] | None = None) -> None:
    """Entry point."""
    flags = tyro.cli(_Flags, description="Run the arms of an ablation.", args=argv)
    from realm_jax.ablations import ablate
    from realm_jax.ablations.ablation_table import read_results, table

    arms = ablate.load_arms(flags.experiment)
    names = [n for n in flags.arms.split(",") if n] or [n for n, arm in arms.items() if arm.paper]
    names = list(arms) if names == ["all"] else names
    unknown = sorted(set(names) - set(arms))
    if unknown:
        raise ConfigError(f"--arms={','.join(unknown)} is unknown: use {', '.join(arms)}")
    if not re.fullmatch(r"\d+(,\d+)*", flags.seeds):
        raise ConfigError(f"--seeds={flags.seeds} is no number, nor several with commas: pass 0 or 0,1,2")
    data = ablate.Data(flags.dataset, flags.test, flags.data_dir, flags.corpus, flags.text, flags.out)
    for seed in map(int, flags.seeds.split(",")):
        for name in names:
            ablate.run_arm(arms, name, seed, data)
            print(table(arms, read_results(pathlib.Path(flags.out) / ablate.RESULTS)), flush=True)
