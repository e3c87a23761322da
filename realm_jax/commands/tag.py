"""Trains a tagger of named entities, from which salient spans can be taken (Guu et al. 2020, §3.4).

    realm tag --data=silver --corpus=asset:wiki-leads --out=runs/tagger
    realm tag --data=conll2003 --init=BERT_BASE --learning_rate=5e-5 --epochs=4 --out=runs/conll

The same command goes on where it stopped.
"""

import dataclasses
from typing import Annotated

import tyro

from realm_jax.commands import cli
from realm_jax.paths import quoted
from realm_jax.tagging.tagger_folder import TagConfig, TaggerFolder
from realm_jax.workdir import read_json


@dataclasses.dataclass(frozen=True)
class _Flags:
    settings: Annotated[TagConfig, tyro.conf.arg(name="")]
    out: cli.NeededPath = "runs/tagger"
    """Folder of the tagger; one that was begun is continued."""


def main(argv: list[str] | None = None) -> None:
    """Entry point."""
    flags = tyro.cli(
        _Flags,
        description="Train a tagger of named entities.",
        args=argv,
        default=_Flags(settings=TagConfig()),
        config=(tyro.conf.FlagConversionOff,),
    )
    from realm_jax.tagging import tag
    from realm_jax.training.only_trainer import only_trainer

    folder = TaggerFolder.create(flags.out, flags.settings)
    cli.start_jax()
    with only_trainer(folder.path / "trainer.lock"):
        tag.train(folder)
    _show(folder)


def _show(folder: TaggerFolder) -> None:
    """Prints the scores on the test sentences and what comes next."""
    scores = read_json(folder.scores_file)
    print(f"{folder.path}: test, {scores['sentences']['test']:,} sentences, weights of step {scores['best_step']}:")
    for name, of in scores["test"].items():
        row = "  ".join(f"{key} {of[key]:.3f}" for key in ("precision", "recall", "f1"))
        print(f"  {name:8} {row}  ({of['gold']} entities)")
    print(f"trained for {scores['train_seconds']:.0f} s; scores in {folder.scores_file}")
    print(f"next: realm retag CORPUS_FOLDER --tagger={quoted(folder.path)} --out=NEW_FOLDER", flush=True)
