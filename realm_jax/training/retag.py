"""Gives a finished corpus the salient spans of another tagger; its blocks stay as they are.

    python -m realm_jax.training.retag corpora/enwiki --tagger=runs/tagger --out=corpora/enwiki-bert

Killed, the same command goes on with the segments that are missing. `--corpus=OUT` of the other commands takes the
result.
"""

import dataclasses
import pathlib
from typing import TYPE_CHECKING

import tyro

from realm_jax import cli
from realm_jax.config import ConfigError
from realm_jax.progress import Progress

if TYPE_CHECKING:
    from realm_jax.data.retag import DocumentsTagger


@dataclasses.dataclass(frozen=True)
class _Flags:
    corpus: tyro.conf.Positional[str]
    """Folder of a corpus: of realm_jax.data.build, or `corpus` of a run."""
    tagger: str
    """Folder of a trained tagger (realm_jax.training.tag), `rules` or spacy:PIPELINE."""
    out: str
    """Folder of the new corpus."""
    tokenizer: str = ""
    """Vocabulary that the corpus was cut with; default: tokenizer.json in its folder or in the run's."""


def documents_tagger(name: str) -> "tuple[DocumentsTagger, str]":
    """(function, name for the manifest) of a tagger; that of a trained one has a hash of its weights.

    Raises:
        ConfigError: there is no such tagger.
    """
    if name == "rules" or name.startswith("spacy:"):
        from realm_jax.data import salient

        tag = salient.make_tagger(name)
        return lambda documents: [tag(*document) for document in documents], name
    from realm_jax import parallel
    from realm_jax.training.sentence_tagger import SentenceTagger

    parallel.set_up_compilation_cache()
    trained = SentenceTagger.open(name)
    return trained.documents, trained.name


def tokenizer_file(corpus: str, given: str) -> pathlib.Path:
    """Where the corpus's vocabulary is. Raises ConfigError if it is not where it should be."""
    folder = pathlib.Path(corpus).expanduser()
    files = [pathlib.Path(given)] if given else [folder / "tokenizer.json", folder.resolve().parent / "tokenizer.json"]
    found = [file for file in files if file.is_file()]
    if not found:
        raise ConfigError(f"{files[0]}: no such vocabulary: pass --tokenizer=FILE, the one the corpus was cut with")
    return found[0]


def main(argv: list[str] | None = None) -> None:
    """Entry point."""
    flags = tyro.cli(_Flags, description=__doc__, args=argv)
    from realm_jax.data import wordpiece
    from realm_jax.data.corpus import Corpus
    from realm_jax.data.retag import retag

    corpus = Corpus.open(pathlib.Path(flags.corpus).expanduser())
    tokenizer = wordpiece.load(tokenizer_file(flags.corpus, flags.tokenizer), flag="--tokenizer")
    tag, name = documents_tagger(flags.tagger)
    progress = Progress(f"{name}, sentences")
    made = retag(corpus, flags.out, tokenizer=tokenizer, tag=tag, tagger=name, progress=progress)
    before, after = (sum(s["num_spans"] for s in c.manifest["segments"]) for c in (corpus, made))
    dropped = {
        reason: sum(s["counts"][reason] for s in made.manifest["segments"])
        for reason in ("misaligned_spans", "spans_beyond_limit")
    }
    print(f"{flags.out}: {after:,} salient spans by {name} ({before:,} by {corpus.manifest['tagger']}); {dropped}")
    length = made.block_len_tokens
    print(f"next: python -m realm_jax.run --corpus={flags.out} --corpus.block_len_tokens={length}", flush=True)


def command() -> None:
    """Console script."""
    cli.run(main)


if __name__ == "__main__":
    command()
