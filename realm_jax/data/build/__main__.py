"""Builds a corpus from a Wikipedia dump or another large source, shard by shard, on this machine or a Beam cluster.

python -m realm_jax.data.build --source=enwiki-latest-pages-articles-multistream.xml.bz2 --out=corpora/enwiki

Run again, it goes on where it was. The result is a corpus that `--corpus=OUT` of the other commands takes. With
`--tagger=FOLDER` of a trained tagger it is built with the rules, as OUT-rules, and then tagged anew, as by
realm_jax.tagging.retag: both share the texts by hard links.
"""

import dataclasses
import os
import pathlib
import time
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from realm_jax import cli, lock, paths
from realm_jax.buckets import check_reach, is_remote
from realm_jax.config import ConfigError, RunError
from realm_jax.data.build.beam_pipeline import RunnerName
from realm_jax.data.build.source import FormatName
from realm_jax.paths import quoted
from realm_jax.progress import Progress, clock

if TYPE_CHECKING:
    from realm_jax.data.build.shards import Job

MIB = 1 << 20


@dataclasses.dataclass(frozen=True)
class _Flags:
    source: cli.NeededPath
    """A file or folder in any format of docs/formats.md, hf:OWNER/NAME[@REVISION]/CONFIG, tfds:NAME, or asset:NAME."""
    out: cli.NeededPath
    """Folder of the corpus."""
    format: FormatName = "auto"
    """What the files are; by default their content says it, and is named first of all. docs/formats.md lists all."""
    columns: str = ""
    """Fields of the records where they have other names: id=_id,text=passage,title=name (title may be left out). The
    columns of a table without a header are 1, 2, …"""
    blocks: Literal["auto", "cut", "as_given"] = "auto"
    """Cut records into blocks, or take each as a block as it came; `auto` does what is usual for the format."""
    data_dir: cli.PathFlag = ""
    """Folder with tensorflow-datasets' prepared copies."""
    tokenizer: cli.NeededPath = "asset:bert-tiny"
    """Vocabulary: an asset, a BERT folder, tokenizer.json, vocab.txt, or a Hugging Face id."""
    block_len_tokens: int = 288
    """Longest block: wordpieces of title and text with three special tokens."""
    tagger: cli.NeededPath = "rules"
    """Salient spans by `rules`, by spacy:PIPELINE, or by a trained tagger (folder of realm_jax.tagging.tag)."""
    shard_mb: int = 64
    """MiB of plain text that make a shard, the unit of work."""
    runner: RunnerName = "direct"
    """Where Beam runs it."""
    workers: int = 0
    """Processes (direct), or most workers of a cluster; 0 is one for each core."""
    beam: str = ""
    """Further options of Beam's runner in one string, such as "--project=P --region=R --temp_location=gs://B/tmp"."""
    dry_run: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Only estimate blocks, disk, memory and hours, from a sample."""


def main(argv: list[str] | None = None) -> None:
    """Entry point."""
    flags = tyro.cli(_Flags, description=__doc__, args=argv)
    if flags.shard_mb < 1 or not 16 <= flags.block_len_tokens <= 512 or flags.workers < 0:
        raise ConfigError("--shard_mb must be at least 1, --block_len_tokens in [16, 512], --workers not negative")
    from realm_jax.data import assets, run_tokenizer
    from realm_jax.data.build import estimate, plan, shards, source
    from realm_jax.data.recognise import said_blocks
    from realm_jax.model_folder.checkpoint import check_folder
    from realm_jax.tagging import retagging
    from realm_jax.tagging.retagged_corpus import check_unfinished

    by_bert = retagging.is_folder(flags.tagger)
    tagger = _trained(flags) if by_bert else flags.tagger
    check_reach(flags.out)
    found = source.find(paths.absolute(flags.source), flags.format, flags.data_dir, flags.columns)
    as_given = found.as_given if flags.blocks == "auto" else flags.blocks == "as_given"
    print(f"source: {found.says}; {said_blocks(as_given)}", flush=True)
    if pathlib.Path(flags.tokenizer).is_dir():  # hours of work are lost on a model that cannot be used
        check_folder(pathlib.Path(flags.tokenizer))
    tokenizer = run_tokenizer.from_checkpoint(assets.fetch(flags.tokenizer, weights=()), flag="--tokenizer")
    whole = shards.Job(found, flags.out, tokenizer.to_str(), flags.block_len_tokens, tagger, as_given)
    job = dataclasses.replace(whole, out=f"{flags.out}-rules", tagger="rules") if by_bert else whole
    workers = flags.workers or os.cpu_count() or 1
    if flags.dry_run:
        print(estimate.estimate(job, flags.shard_mb * MIB, workers))
        return
    manifest = plan.check_finished(whole, flags.shard_mb * MIB)
    if manifest is None and by_bert:
        check_unfinished(pathlib.Path(flags.out), {"tagger": tagger})  # before hours of work
        if plan.check_finished(job, flags.shard_mb * MIB) is None:
            _build(job, flags, workers)
        manifest = retagging.retag_folder(job.out, flags.out, flags.tagger).manifest
    elif manifest is None:
        manifest = _build(job, flags, workers)
    print(summary(manifest, flags.out))


def _trained(flags: _Flags) -> str:
    """The name of a trained tagger. Raises ConfigError if there is none, or no folder that it can write to."""
    from realm_jax.tagging.tagger_folder import TaggerFolder

    if is_remote(flags.out):
        raise ConfigError(f"--tagger={flags.tagger} needs a local --out: build there, then copy the folder")
    return TaggerFolder.open(flags.tagger).name


def _build(job: "Job", flags: _Flags, workers: int) -> dict:
    """Makes what is missing, while nobody else does; returns the manifest."""
    from realm_jax.data.build import plan

    plan.check_unused(job)
    with lock.only_one(job.work / "lock", f"{job.out} is being built"):
        return plan.check_finished(job, flags.shard_mb * MIB) or _build_alone(job, flags, workers)


def _build_alone(job: "Job", flags: _Flags, workers: int) -> dict:
    from realm_jax.data.build import beam_pipeline, plan, shards

    started = time.monotonic()
    planned = plan.make_or_read(job, flags.shard_mb * MIB)
    todo = sum(not job.is_done(number) for number in range(len(planned.parts)))
    print(f"{flags.source}: {len(planned.parts)} shards, {todo} to make, {workers} workers", flush=True)
    beam_options = beam_pipeline.options(flags.runner, workers, flags.beam)
    beam_pipeline.run(job, planned.parts, beam_options, Progress("source, KB"))
    problems = shards.errors(job, len(planned.parts))
    if problems:
        raise RunError(f"{len(problems)} of {len(planned.parts)} shards failed; the others are kept. {problems[0]}")
    return shards.finish(job, planned.identity, planned.fingerprint, len(planned.parts), time.monotonic() - started)


def summary(manifest: dict, out: str) -> str:
    """What was made, what was dropped and why, and the next commands."""
    from realm_jax.data import lost
    from realm_jax.data.blocks import SPLIT
    from realm_jax.data.show import census

    totals = {
        key: sum(s[f"num_{key}"] for s in manifest["segments"]) for key in ("sources", "blocks", "sentences", "spans")
    }
    build = manifest["build"]
    lines = [
        f"{out}: {totals['blocks']:,} blocks of {totals['sources']:,} articles, {totals['sentences']:,} sentences, "
        f"{totals['spans']:,} salient spans in {len(manifest['segments'])} shards ({clock(build['seconds'])})"
    ]
    lines += [f"  {what} read: {count:,}" for what, count in census.was_read(manifest)]
    lines += [f"  {line}" for line in census.exceeding(manifest)]
    lines += [f"  left out: {reason}: {count:,}" for _, reason, count in census.dropped(manifest) if count]
    split = census.cutting_counts(manifest)[SPLIT]
    lines += [f"  sentences longer than a block, in pieces: {split:,}"] if split else []
    lines += [f"  {line}" for line in lost.lines(manifest)]
    length = manifest["block_len_tokens"]
    lines += [
        f"next: python -m realm_jax.data.show {quoted(out)}",
        f"next: python -m realm_jax.run --config=experiments/nano.py --corpus={quoted(out)} "
        f"--corpus.block_len_tokens={length}",
    ]
    return "\n".join(lines)


def command() -> None:
    """Console script."""
    cli.run(main)


if __name__ == "__main__":
    command()
