"""The Beam pipeline, which makes shards from the parts of the plan, on this machine or on a cluster.

There is nothing to shuffle: a shard is one part's work from end to end. Flink and Spark are reached through their Beam
job servers, which start the workers themselves.
"""

import logging
import os
import threading

from realm_jax import background
from realm_jax.config import ConfigError
from realm_jax.data.build.shards import Job, build_shard
from realm_jax.data.build.source_parts import Part, Progress

POLL_S = 2.0


def pipeline(job: Job, numbered: list[tuple[int, Part]], beam_options: list[str]):
    """Makes the pipeline, not yet run. Raises ConfigError if the runner lacks an option."""
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    try:
        made = beam.Pipeline(options=PipelineOptions(beam_options))
    except ValueError as error:
        missing = " ".join(str(error).split())
        raise ConfigError(f'{missing} Pass them with --beam="--OPTION=VALUE --OPTION=VALUE"') from error
    _ = made | "plan" >> beam.Create(numbered) | "spread" >> beam.Reshuffle() | "shard" >> beam.Map(build_shard, job)
    return made


def run(job: Job, plan: list[Part], beam_options: list[str], progress: Progress) -> None:
    """Makes the shards that are missing and waits for them; `progress` is told of kilobytes of the source."""
    missing = [(number, part) for number, part in enumerate(plan) if not job.is_done(number)]
    if not missing:
        return
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # the workers share the cores already
    for name in ("apache_beam", "root", "__main__"):
        logging.getLogger(None if name == "root" else name).setLevel(logging.ERROR)
    finished = threading.Event()
    sizes = {number: part.input_bytes for number, part in missing}
    watcher = threading.Thread(target=_watch, args=(job, sizes, progress, finished), daemon=True)
    watcher.start()
    try:
        pipeline(job, missing, beam_options).run().wait_until_finish()
    finally:
        finished.set()
        background.join(watcher, background.CLOSE_S)


def _watch(job: Job, sizes: dict[int, int], progress: Progress, finished: threading.Event) -> None:
    """Reports finished shards, by the bytes of their parts, until the pipeline has ended."""
    total = sum(sizes.values())
    left = set(sizes)
    is_last = False
    while not is_last:
        is_last = finished.wait(POLL_S)
        left = {number for number in left if not job.is_done(number)}
        progress((total - sum(sizes[number] for number in left)) // 1000, total // 1000)
