"""Builds a corpus shard by shard, and says what became of the source."""

import logging
import time
from dataclasses import dataclass

from realm_jax import lock
from realm_jax.config import RunError
from realm_jax.data import lost
from realm_jax.data.blocks import SPLIT
from realm_jax.data.build import beam_pipeline, plan, runners, shards
from realm_jax.data.build.shards import Job
from realm_jax.data.show import census
from realm_jax.progress import Progress, clock

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Work:
    """Who builds a corpus, and in what pieces."""

    source: str
    """The source's name, for people."""
    shard_bytes: int
    """How much plain text of the source makes a shard, the unit of work."""
    workers: int
    """How many processes, or at most how many workers of a cluster."""
    runner: runners.RunnerName = "direct"
    """The runner that Beam is given."""
    beam: str = ""
    """Further options of Beam's runner."""


def build(job: Job, work: Work) -> dict:
    """Makes the shards that are missing, while nobody else does; returns the manifest.

    Raises:
        ConfigError: somebody else is at work, or the folder holds something else.
        RunError: some shards failed; the others are kept.
    """
    plan.check_unused(job)
    with lock.only_one(job.work / "lock", f"{job.out} is being built"):
        return plan.check_finished(job, work.shard_bytes) or _build_alone(job, work)


def _build_alone(job: Job, work: Work) -> dict:
    started = time.monotonic()
    planned = plan.make_or_read(job, work.shard_bytes)
    todo = sum(not job.is_done(number) for number in range(len(planned.parts)))
    log.info(f"{work.source}: {len(planned.parts)} shards, {todo} to make, {work.workers} workers")
    beam_options = runners.options(work.runner, work.workers, work.beam)
    beam_pipeline.run(job, planned.parts, beam_options, Progress("source, KB"))
    problems = shards.errors(job, len(planned.parts))
    if problems:
        raise RunError(f"{len(problems)} of {len(planned.parts)} shards failed; the others are kept. {problems[0]}")
    return shards.finish(job, planned.identity, planned.fingerprint, len(planned.parts), time.monotonic() - started)


def summary(manifest: dict, out: str) -> str:
    """Says in lines what was made, and what was dropped and why."""
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
    return "\n".join(lines)
