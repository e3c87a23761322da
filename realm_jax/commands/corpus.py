"""Builds a corpus from a Wikipedia dump or another large source, shard by shard, on this machine or a Beam cluster.

realm corpus --source=enwiki-latest-pages-articles-multistream.xml.bz2 --out=corpora/enwiki

The same command goes on where it was stopped. `--corpus=OUT` of the other commands takes the result. With a trained
tagger, `--tagger=FOLDER`, the corpus is first built with the rules, as OUT-rules, and then tagged anew as by
`realm retag`; the two share their texts by hard links.
"""

import dataclasses
import os
import pathlib
from typing import Annotated, Literal

import tyro

from realm_jax import paths
from realm_jax.buckets import check_reach, is_remote
from realm_jax.commands import cli
from realm_jax.config import ConfigError
from realm_jax.data.build.runners import RunnerName
from realm_jax.data.sources.formats import FormatName
from realm_jax.paths import quoted

MIB = 1 << 20


@dataclasses.dataclass(frozen=True)
class _Flags:
    source: cli.NeededPath
    """A file or folder in any format of docs/formats.md, hf:OWNER/NAME[@REVISION]/CONFIG, tfds:NAME, or asset:NAME."""
    out: cli.NeededPath
    """Folder of the corpus."""
    format: FormatName = "auto"
    """Format of the files, as docs/formats.md lists them; by default it is recognised by their content, and printed."""
    columns: str = ""
    """Names of the records' fields, if they are not id, text and title: id=_id,text=passage,title=name (title may be
    left out). The columns of a table without a header are 1, 2, …"""
    blocks: Literal["auto", "cut", "as_given"] = "auto"
    """Cut records into blocks, or take each as one block; `auto` does what is usual for the format."""
    data_dir: cli.PathFlag = ""
    """Folder with tensorflow-datasets' prepared copies."""
    tokenizer: cli.NeededPath = "asset:bert-tiny"
    """Vocabulary: an asset, a BERT folder, tokenizer.json, vocab.txt, or a Hugging Face id."""
    block_len_tokens: int = 288
    """Longest block: wordpieces of title and text with three special tokens."""
    tagger: cli.NeededPath = "rules"
    """Salient spans by `rules`, by spacy:PIPELINE, or by a trained tagger (folder of `realm tag`)."""
    shard_mb: int = 64
    """MiB of plain text in a shard, the unit of work."""
    runner: RunnerName = "direct"
    """Beam's runner."""
    workers: int = 0
    """Processes (direct), or most workers of a cluster; 0 is one for each core."""
    beam: str = ""
    """Further options of Beam's runner in one string, such as "--project=P --region=R --temp_location=gs://B/tmp"."""
    bm25: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Also build the BM25 index that evaluations compare with, beside the corpus; else the first of them builds it."""
    dry_run: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Only estimate blocks, disk, memory and hours, from a sample."""


def main(argv: list[str] | None = None) -> None:
    """Entry point."""
    flags = tyro.cli(_Flags, description=__doc__, args=argv)
    if flags.shard_mb < 1 or not 16 <= flags.block_len_tokens <= 512 or flags.workers < 0:
        raise ConfigError("--shard_mb must be at least 1, --block_len_tokens in [16, 512], --workers not negative")
    from realm_jax.data import assets, run_tokenizer, salient
    from realm_jax.data.build import build_corpus, estimate, plan, shards, source
    from realm_jax.data.sources.recognise import said_blocks, takes_as_given
    from realm_jax.model_folder.checkpoint import check_folder

    by_bert = salient.is_folder(flags.tagger)
    tagger = _trained(flags) if by_bert else flags.tagger
    check_reach(flags.out)
    found = source.find(paths.absolute(flags.source), flags.format, flags.data_dir, flags.columns)
    as_given = takes_as_given(flags.blocks, found.as_given)
    print(f"source: {found.says}; {said_blocks(as_given)}", flush=True)
    if pathlib.Path(flags.tokenizer).is_dir():  # hours of work are lost on a model that cannot be used
        check_folder(pathlib.Path(flags.tokenizer))
    tokenizer = run_tokenizer.from_checkpoint(assets.fetch(flags.tokenizer, weights=()), flag="--tokenizer")
    job = shards.Job(found, flags.out, tokenizer.to_str(), flags.block_len_tokens, tagger, as_given)
    workers = flags.workers or os.cpu_count() or 1
    if flags.dry_run:
        sampled = dataclasses.replace(job, tagger="rules") if by_bert else job  # a trained tagger comes after the build
        print(estimate.estimate(sampled, flags.shard_mb * MIB, workers))
        return
    work = build_corpus.Work(flags.source, flags.shard_mb * MIB, workers, flags.runner, flags.beam)
    manifest = plan.check_finished(job, work.shard_bytes)
    if manifest is None and by_bert:
        from realm_jax.tagging.build_tagged import build_tagged

        cli.start_jax()
        manifest = build_tagged(job, work, flags.tagger)
    elif manifest is None:
        manifest = build_corpus.build(job, work)
    print(build_corpus.summary(manifest, flags.out))
    if flags.bm25:
        from realm_jax.data.corpus import Corpus
        from realm_jax.eval import bm25_index

        print(f"BM25: {bm25_index.build_beside(Corpus.open(flags.out))}")
    length = manifest["block_len_tokens"]
    print(f"next: realm show {quoted(flags.out)}")
    print(
        f"next: realm run --config=experiments/nano.py --corpus={quoted(flags.out)} --corpus.block_len_tokens={length}"
    )


def _trained(flags: _Flags) -> str:
    """The name of a trained tagger. Raises ConfigError if there is none, or no folder that it can write to."""
    from realm_jax.tagging.tagger_folder import TaggerFolder

    if is_remote(flags.out):
        raise ConfigError(f"--tagger={flags.tagger} needs a local --out: build there, then copy the folder")
    return TaggerFolder.open(flags.tagger).name
