"""What every phase of a run reads: its vocabulary, its knowledge corpus Z and its pre-training text X."""

import os
import pathlib
from dataclasses import dataclass

from etils import epath
from tokenizers import Tokenizer

from realm_jax import paths, redo
from realm_jax.config import CONVERTED, ConfigError
from realm_jax.data import assets, built, corpus, salient, sources, wordpiece
from realm_jax.data.corpus import Corpus
from realm_jax.data.manifest import MANIFEST
from realm_jax.data.masking import SpecialIds
from realm_jax.progress import Progress
from realm_jax.workdir import Workdir, write_text


@dataclass(frozen=True)
class RunData:
    """A run's vocabulary and corpora, opened."""

    tokenizer: Tokenizer
    special: SpecialIds
    knowledge: Corpus
    text: Corpus


def first_weights(workdir: Workdir) -> pathlib.Path | None:
    """Folder of the checkpoint that `init` names, fetched if need be; None for random weights.

    Raises:
        ConfigError: a download failed, or the run was converted without a vocabulary.
    """
    if workdir.config.init == CONVERTED:
        raise ConfigError(f"{workdir.path} was converted without a vocabulary: convert again with --vocab=FILE")
    return None if workdir.config.init == "random" else assets.fetch(workdir.config.init)


def prepare(workdir: Workdir) -> RunData:
    """Fetches, trains and builds whatever the run lacks, then opens it.

    Raises:
        ConfigError: a download failed, a source is malformed, or a corpus was built from something else.
    """
    redo.finish(workdir.path)
    config = workdir.config.corpus
    is_new = not workdir.tokenizer_file.exists()
    tokenizer = _first_tokenizer(workdir) if is_new else wordpiece.load(workdir.tokenizer_file)
    if config.knowledge != CONVERTED:
        _check_size(workdir, tokenizer)
        _make(workdir, tokenizer, config.knowledge, workdir.knowledge_folder)
    if workdir.text_folder != workdir.knowledge_folder:
        _make(workdir, tokenizer, config.pretrain_text, workdir.text_folder)
    if is_new:  # last: a source that had to be corrected leaves no vocabulary of its old text
        write_text(workdir.tokenizer_file, tokenizer.to_str())
    return open_prepared(workdir)


def open_prepared(workdir: Workdir) -> RunData:
    """Opens what `prepare` made. Raises ConfigError if it is not there."""
    if not workdir.tokenizer_file.exists():
        raise ConfigError(f"{workdir.path} has no corpus yet: run python -m realm_jax.run --workdir={workdir.path}")
    redo.finish(workdir.path)
    tokenizer = wordpiece.load(workdir.tokenizer_file)
    _check_size(workdir, tokenizer)
    knowledge = Corpus.open(workdir.knowledge_folder)
    same = workdir.text_folder == workdir.knowledge_folder
    text = knowledge if same else Corpus.open(workdir.text_folder)
    return RunData(tokenizer, SpecialIds.from_tokenizer(tokenizer), knowledge, text)


def _first_tokenizer(workdir: Workdir) -> Tokenizer:
    """That of the first weights; for random ones that of a built corpus, or one trained on the knowledge corpus."""
    spec, folder = workdir.config.corpus.knowledge, first_weights(workdir)
    if folder is not None:
        return wordpiece.from_checkpoint(folder)
    if built.is_built(spec):
        return built.tokenizer_of(spec)
    texts = [text for record in sources.read(spec).records() for text in (record.title, record.text)]
    return wordpiece.train(texts, workdir.config.model.vocab_size)


def _check_size(workdir: Workdir, tokenizer: Tokenizer) -> None:
    size, expected = tokenizer.get_vocab_size(), workdir.config.model.vocab_size
    if size != expected:
        raise ConfigError(
            f"the vocabulary of {workdir.path} has {size} wordpieces, the config's model {expected}: "
            f"pass --model.vocab_size={size}"
        )


def _make(workdir: Workdir, tokenizer: Tokenizer, spec: str, folder: epath.Path) -> None:
    config = workdir.config.corpus
    if built.is_built(spec):
        if built.tokenizer_of(spec).get_vocab() != tokenizer.get_vocab():
            raise ConfigError(
                f"{spec}: was built with another vocabulary than the run's: build it with "
                f"--tokenizer={workdir.config.init}"
            )
        taken = built.take(spec, folder, config.block_len_tokens)
        print(f"corpus: {taken.num_blocks:,} blocks of {spec}", flush=True)
        return
    source = _read(spec, folder)
    if source is None:
        return
    description = {**source.description, "fingerprint": source.fingerprint, "tagger": config.tagger}
    if (folder / MANIFEST).exists():
        Corpus.open(folder).check_against(description, tokenizer=tokenizer, block_len_tokens=config.block_len_tokens)
        return
    made = corpus.build(
        source.records(),
        folder,
        tokenizer=tokenizer,
        tag=salient.make_tagger(config.tagger),
        block_len_tokens=config.block_len_tokens,
        description=description,
        total=source.num_records,
        progress=Progress(f"corpus {description['source']}, articles"),
    )
    segment = made.manifest["segments"][0]
    print(
        f"corpus: {segment['num_blocks']:,} blocks, {segment['num_sentences']:,} sentences, "
        f"{segment['num_spans']:,} salient spans from {description['source']}; {segment['counts']}",
        flush=True,
    )


def _read(spec: str, folder: epath.Path) -> sources.Source | None:
    """The source that `spec` names; None, which is said, if it is gone and the corpus of it lies in `folder`."""
    try:
        return sources.read(spec)
    except ConfigError:
        if os.path.exists(paths.expand(spec)) or not (folder / MANIFEST).exists():
            raise
    print(f"corpus: {spec} is not there any more: going on with {folder}, which was made from it", flush=True)
    return None
