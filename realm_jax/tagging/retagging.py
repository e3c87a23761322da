"""Opens a corpus and a tagger by their names, and makes the corpus with that tagger's spans (`retagged_corpus`)."""

import logging
import os
import pathlib

from realm_jax import paths
from realm_jax.config import ConfigError
from realm_jax.console import tally
from realm_jax.data import run_tokenizer, salient
from realm_jax.data.corpus import Corpus
from realm_jax.progress import Progress
from realm_jax.tagging.retagged_corpus import DocumentsTagger, retag
from realm_jax.tagging.sentence_tagger import SentenceTagger

log = logging.getLogger(__name__)


def documents_tagger(name: str) -> tuple[DocumentsTagger, str]:
    """Returns (function, name for the manifest) of a tagger; a trained one's name has a hash of its weights.

    Raises:
        ConfigError: there is no such tagger.
    """
    if not salient.is_folder(name):
        tag = salient.make_tagger(name)
        return lambda documents: [tag(*document) for document in documents], name
    trained = SentenceTagger.open(name)
    return trained.documents, trained.name


def retag_folder(folder: str | os.PathLike, out: str, tagger: str, *, tokenizer: str = "") -> Corpus:
    """Makes the corpus `out`, or goes on with it, and says what changed.

    Args:
        folder: of the corpus.
        tagger: folder of a trained one, `rules` or spacy:PIPELINE.
        tokenizer: file of the vocabulary that the corpus was cut with; by default the one in its folder or its run's.

    Raises:
        ConfigError: there is no such corpus, tagger or vocabulary, or `out` is something else.
    """
    folder = pathlib.Path(paths.expand(os.fspath(folder)))
    corpus = Corpus.open(folder)
    vocabulary = run_tokenizer.load(_tokenizer_file(folder, tokenizer), flag="--tokenizer")
    tag, name = documents_tagger(tagger)
    progress = Progress(f"{name}, sentences")
    made = retag(corpus, out, tokenizer=vocabulary, tag=tag, tagger=name, progress=progress)
    before, after = (sum(s["num_spans"] for s in c.manifest["segments"]) for c in (corpus, made))
    dropped = {
        reason: sum(s["counts"][reason] for s in made.manifest["segments"])
        for reason in ("misaligned_spans", "spans_beyond_limit")
    }
    old = corpus.manifest["tagger"]
    log.info(f"{out}: {after:,} salient spans by {name} ({before:,} by {old}); {tally(dropped)}")
    return made


def _tokenizer_file(corpus: pathlib.Path, given: str) -> pathlib.Path:
    """Where the corpus's vocabulary is. Raises ConfigError if it is not where it should be."""
    folders = (corpus, corpus.resolve().parent)
    files = [pathlib.Path(given)] if given else [folder / "tokenizer.json" for folder in folders]
    found = [file for file in files if file.is_file()]
    if not found:
        raise ConfigError(f"{files[0]}: no such vocabulary: pass --tokenizer=FILE, the one the corpus was cut with")
    return found[0]
