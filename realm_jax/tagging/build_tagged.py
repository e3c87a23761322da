"""A corpus with the spans of a trained tagger: built with the rules' spans beside it, then tagged anew."""

import dataclasses
import pathlib

from realm_jax.data.build import build_corpus, plan
from realm_jax.data.build.build_corpus import Work
from realm_jax.data.build.shards import Job
from realm_jax.tagging import retagging
from realm_jax.tagging.retagged_corpus import check_unfinished


def build_tagged(job: Job, work: Work, tagger: str) -> dict:
    """Builds the corpus of `job`, or goes on with it; returns its manifest.

    The corpus with the rules' spans stays in OUT-rules; the two share their texts by hard links.

    Args:
        tagger: folder of the trained tagger that `job` names.

    Raises:
        ConfigError: see `build_corpus.build` and `retagging.retag_folder`.
    """
    check_unfinished(pathlib.Path(job.out), {"tagger": job.tagger})  # before hours of work
    plain = dataclasses.replace(job, out=f"{job.out}-rules", tagger="rules")
    if plan.check_finished(plain, work.shard_bytes) is None:
        build_corpus.build(plain, work)
    return retagging.retag_folder(plain.out, job.out, tagger).manifest
