"""Converts published checkpoints to a workdir, and a workdir to other libraries' models.

    realm convert SOURCE... OUT                     a workdir from REALM or BERT checkpoints
    realm convert --to=hf WORKDIR OUT               safetensors for transformers' REALM classes
    realm convert --to=sentence-transformers WORKDIR OUT

A SOURCE is a folder, a .safetensors or .bin file, a TensorFlow checkpoint's PREFIX, a block_records.npy or a Hugging
Face id. Several make one workdir: embedder and encoder, a reader, block records and their embeddings.
"""

import dataclasses
import pathlib
import sys
from typing import Annotated, Literal

import tyro

from realm_jax.commands import cli
from realm_jax.config import Config, ConfigError
from realm_jax.experiments_file import load_experiment
from realm_jax.paths import quoted
from realm_jax.workdir import Workdir


@dataclasses.dataclass(frozen=True)
class _Flags:
    paths: tyro.conf.Positional[tuple[cli.NeededPath, ...]]
    """SOURCE... OUT, or with --to WORKDIR OUT."""
    settings: Annotated[Config, tyro.conf.arg(name="")]
    to: Literal["workdir", "hf", "sentence-transformers"] = "workdir"
    """What OUT becomes."""
    vocab: cli.PathFlag = ""
    """tokenizer.json, vocab.txt or a folder of one, where no SOURCE brings it."""
    config: cli.PathFlag = "experiments/base_wikipedia.py"
    """Experiment file whose get_config() the other flags override; the model comes from the checkpoint, lengths that
    its position table does not hold are shortened, and index.search is exact unless it is given."""
    corpus: cli.PathFlag = ""
    """Short for --corpus.knowledge; the corpus is then built at once."""


def main(argv: list[str] | None = None) -> None:
    """Entry point."""
    argv = sys.argv[1:] if argv is None else argv
    default = load_experiment(cli.early_path(argv, "--config") or _Flags.config)
    # The published index is 7 GB: ScaNN would hold all of it while it builds, exact search maps it.
    default = dataclasses.replace(default, index=dataclasses.replace(default.index, search="exact"))
    flags = tyro.cli(
        _Flags,
        description=__doc__,
        args=argv,
        default=_Flags(paths=(), settings=default),
        config=(tyro.conf.FlagConversionOff,),
    )
    if len(flags.paths) < 2:
        raise ConfigError("pass SOURCE... OUT, or WORKDIR OUT with --to=hf; see --help")
    *sources, out = flags.paths
    if flags.to == "workdir":
        _into_workdir(sources, pathlib.Path(out), flags, argv)
    elif len(sources) == 1:
        _export(Workdir.open(sources[0]), pathlib.Path(out), flags.to)
    else:
        raise ConfigError(f"--to={flags.to} takes one WORKDIR and OUT")


def _into_workdir(sources: list[str], out: pathlib.Path, flags: _Flags, argv: list[str]) -> None:
    from realm_jax.convert import lengths
    from realm_jax.convert.into_workdir import convert

    config = flags.settings
    if flags.corpus:
        config = dataclasses.replace(config, corpus=dataclasses.replace(config.corpus, knowledge=flags.corpus))
    given = lengths.named_in(argv)
    made = convert(sources, out, config, flags.vocab, with_corpus=bool(flags.corpus), given_lengths=given)
    width = max((len(row.ours) for row in made.rows), default=0)
    for row in made.rows:
        print(f"{row.ours or '(unused)':{width}}  {'x'.join(map(str, row.shape)):>12}  {row.origin}")
    for notice in made.notices:
        print(f"notice: {notice}")
    print(f"{out} has: {', '.join(made.has)}")
    for missing in made.missing:
        print(f"{out} has no {missing}")
    corpus = "" if "corpus" in made.has else " --corpus=FILE_OR_FOLDER"
    if "encoder" in made.has:
        print(f"next: realm run --workdir={quoted(out)}{corpus}", flush=True)
    elif "corpus" in made.has:
        print(f"next: realm eval --workdir={quoted(out)} --only=recall --dataset=QUESTIONS.jsonl", flush=True)


def _export(workdir: Workdir, out: pathlib.Path, to: str) -> None:
    from realm_jax.convert import export

    written = export.to_hugging_face(workdir, out) if to == "hf" else export.to_sentence_transformers(workdir, out)
    for line in written:
        print(line)
