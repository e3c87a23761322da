"""How a run gets what every phase reads: a vocabulary, the knowledge corpus Z and the pre-training text X."""

import logging
import os
import pathlib
from collections import Counter
from dataclasses import dataclass

from etils import epath
from tokenizers import Tokenizer

from realm_jax import faults, paths, redo
from realm_jax.config import CONVERTED, ConfigError
from realm_jax.console import tally
from realm_jax.data import assets, built, corpus_writer, lost, run_tokenizer, salient
from realm_jax.data.assembly import SpecialIds
from realm_jax.data.corpus import Corpus
from realm_jax.data.manifest import AS_GIVEN, CUT, MANIFEST
from realm_jax.data.show import census
from realm_jax.data.sources import sources
from realm_jax.data.sources.recognise import said_blocks, takes_as_given
from realm_jax.model_folder.checkpoint import weights_sha256
from realm_jax.model_folder.wordpiece import fits, same, size
from realm_jax.progress import Progress
from realm_jax.workdir import Workdir, read_json, write_json, write_text

log = logging.getLogger(__name__)

RANDOM = "random"
_RECORD = "first_weights.json"  # in the workdir: what `init` named, and the hash of its content


@dataclass(frozen=True)
class RunData:
    """A run's vocabulary and corpora, opened."""

    tokenizer: Tokenizer
    special: SpecialIds
    knowledge: Corpus
    text: Corpus
    examples: epath.Path | None = None
    """Where it is kept which of their rows can be masked; None to find these anew."""


def first_weights(workdir: Workdir) -> pathlib.Path | None:
    """Finds the folder of the checkpoint that `init` names, and fetches it if need be; None for random weights.

    Raises:
        ConfigError: a download failed, the run was converted without a vocabulary, or the folder holds other weights
            than when the run was begun.
    """
    init = workdir.config.init
    if init == CONVERTED:
        raise ConfigError(f"{workdir.path} was converted without a vocabulary: convert again with --vocab=FILE")
    if init == RANDOM:
        return None
    folder = assets.fetch(init)
    record = workdir.path / _RECORD
    if record.exists() and read_json(record).get("sha256") != weights_sha256(folder):
        raise ConfigError(
            f"{init} holds other weights than those that {workdir.path} began with: put them back, or pass another "
            "--workdir"
        )
    return folder


def check_unchanged(workdir: Workdir) -> None:
    """Raises ConfigError if `init` names a path on this machine that holds other weights than the run began with."""
    init = workdir.config.init
    if init not in (RANDOM, CONVERTED) and os.path.exists(paths.expand(init)):
        first_weights(workdir)


def prepare(workdir: Workdir) -> RunData:
    """Fetches, trains and builds whatever the run lacks, then opens it.

    Raises:
        ConfigError: a download failed, a source is malformed, or a corpus was built from something else.
    """
    redo.finish(workdir.path)
    config = workdir.config.corpus
    is_new = not workdir.tokenizer_file.exists()
    if is_new:
        folder = first_weights(workdir)
        tokenizer = _first_tokenizer(workdir, folder)
        record = {"init": workdir.config.init, "sha256": weights_sha256(folder)} if folder is not None else None
    else:
        check_unchanged(workdir)
        tokenizer = run_tokenizer.load(workdir.tokenizer_file)
    if config.knowledge != CONVERTED:
        _check_size(workdir, tokenizer)
        _make(workdir, tokenizer, config.knowledge, workdir.knowledge_folder)
    if workdir.text_folder != workdir.knowledge_folder:
        _make(workdir, tokenizer, config.pretrain_text, workdir.text_folder)
    faults.point("corpus")
    if is_new:  # last: a source that had to be corrected leaves no vocabulary of its old text
        if record is not None:
            write_json(workdir.path / _RECORD, record)
        write_text(workdir.tokenizer_file, tokenizer.to_str())
    return open_prepared(workdir)


def open_prepared(workdir: Workdir) -> RunData:
    """Opens what `prepare` made. Raises ConfigError if it is not there."""
    if not workdir.tokenizer_file.exists():
        raise ConfigError(f"{workdir.path} has no corpus yet: run realm run --workdir={workdir.path}")
    redo.finish(workdir.path)
    tokenizer = run_tokenizer.load(workdir.tokenizer_file)
    _check_size(workdir, tokenizer)
    knowledge = Corpus.open(workdir.knowledge_folder)
    same = workdir.text_folder == workdir.knowledge_folder
    text = knowledge if same else Corpus.open(workdir.text_folder)
    return RunData(tokenizer, SpecialIds.from_tokenizer(tokenizer), knowledge, text, workdir.examples_folder)


def _first_tokenizer(workdir: Workdir, folder: pathlib.Path | None) -> Tokenizer:
    """Takes the vocabulary of the first weights; without these that of a built corpus, or trains one on the corpus."""
    spec = workdir.config.corpus.knowledge
    if folder is not None:
        return run_tokenizer.from_checkpoint(folder)
    if built.is_built(spec):
        return built.tokenizer_of(spec)
    records = sources.read(spec, workdir.config.corpus.columns).records()
    texts = [text for record in records for text in (record.title, record.text)]
    return run_tokenizer.train(texts, workdir.config.model.vocab_size)


def _check_size(workdir: Workdir, tokenizer: Tokenizer) -> None:
    expected = workdir.config.model.vocab_size
    if not fits(tokenizer, expected):
        raise ConfigError(
            f"the vocabulary of {workdir.path} has {size(tokenizer)} wordpieces, the config's model {expected}: "
            f"pass --model.vocab_size={size(tokenizer)}"
        )


def _make(workdir: Workdir, tokenizer: Tokenizer, spec: str, folder: epath.Path) -> None:
    config = workdir.config.corpus
    if built.is_built(spec):
        if not same(built.tokenizer_of(spec), tokenizer):
            raise ConfigError(
                f"{spec}: was built with another vocabulary than the run's: build it with "
                f"--tokenizer={workdir.config.init}"
            )
        taken = built.take(spec, folder, config.block_len_tokens)
        log.info(f"corpus: {taken.num_blocks:,} blocks of {spec}")
        return
    source = _read(spec, config.columns, folder)
    if source is None:
        return
    as_given = takes_as_given(config.blocks, source.as_given)
    description = {**source.description, "fingerprint": source.fingerprint, "tagger": config.tagger}
    description["blocks"] = AS_GIVEN if as_given else CUT
    if (folder / MANIFEST).exists():
        Corpus.open(folder).check_against(description, tokenizer=tokenizer, block_len_tokens=config.block_len_tokens)
        return
    log.info(f"corpus: {source.says or spec}; {said_blocks(as_given)}")
    left_out: Counter = Counter()
    made = corpus_writer.build(
        source.records(left_out),
        folder,
        tokenizer=tokenizer,
        tag=salient.make_tagger(config.tagger),
        block_len_tokens=config.block_len_tokens,
        description=description,
        total=source.num_records,
        progress=Progress(f"corpus {description['source']}, articles"),
    )
    segment = made.manifest["segments"][0]
    log.info(
        f"corpus: {segment['num_blocks']:,} blocks, {segment['num_sentences']:,} sentences, "
        f"{segment['num_spans']:,} salient spans from {description['source']}; {tally(left_out | segment['counts'])}"
    )
    for line in [*lost.lines(made.manifest), *census.exceeding(made.manifest)]:
        log.info(f"corpus: {line}")


def _read(spec: str, columns: str, folder: epath.Path) -> sources.Source | None:
    """Opens the source that `spec` names; None, with a log line, if it is gone and its corpus lies in `folder`."""
    try:
        return sources.read(spec, columns)
    except ConfigError:
        if os.path.exists(paths.expand(spec)) or not (folder / MANIFEST).exists():
            raise
    log.info(f"corpus: {spec} is not there any more: going on with {folder}, which was made from it")
    return None
