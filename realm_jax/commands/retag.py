"""Gives a finished corpus the salient spans of another tagger; its blocks stay as they are.

    realm retag corpora/enwiki --tagger=runs/tagger --out=corpora/enwiki-bert

If it is killed, the same command goes on with the segments that are missing. `--corpus=OUT` of the other commands takes
the result.
"""

import dataclasses

import tyro

from realm_jax.commands import cli
from realm_jax.paths import quoted


@dataclasses.dataclass(frozen=True)
class _Flags:
    corpus: tyro.conf.Positional[cli.NeededPath]
    """Folder of a corpus: one that `realm corpus` made, or `corpus` in a run's folder."""
    tagger: cli.NeededPath
    """Folder of a trained tagger (`realm tag`), `rules` or spacy:PIPELINE."""
    out: cli.NeededPath
    """Folder of the new corpus."""
    tokenizer: cli.PathFlag = ""
    """Vocabulary that the corpus was cut with; default: tokenizer.json in its folder or in the run's."""


def main(argv: list[str] | None = None) -> None:
    """Entry point."""
    flags = tyro.cli(_Flags, description=__doc__, args=argv)
    from realm_jax.tagging.retagging import retag_folder

    cli.start_jax()
    made = retag_folder(flags.corpus, flags.out, flags.tagger, tokenizer=flags.tokenizer)
    length = made.block_len_tokens
    print(f"next: realm run --corpus={quoted(flags.out)} --corpus.block_len_tokens={length}", flush=True)
