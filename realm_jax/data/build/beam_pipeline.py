"""The Beam pipeline, which makes shards from the parts of the plan, on this machine or on a cluster.

There is nothing to shuffle: a shard is one part's work from end to end. Flink and Spark are reached through their Beam
job servers, which start the workers themselves.
"""

import contextlib
import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import wait

import psutil

from realm_jax import background
from realm_jax.background import Background
from realm_jax.config import ConfigError, RunError
from realm_jax.data.build.shards import Job, build_shard
from realm_jax.data.build.source_parts import Part, Progress

POLL_S = 2.0
WORKER_THREAD = "run_worker"
"""Beam's name of the thread that starts a worker process, and raises when that ends."""


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
    logging.getLogger("apache_beam.runners.worker").setLevel(logging.CRITICAL)  # what it reports, it also raises
    finished = threading.Event()
    sizes = {number: part.input_bytes for number, part in missing}
    watcher = threading.Thread(target=_watch, args=(job, sizes, progress, finished), daemon=True)
    watcher.start()
    try:
        _run_to_its_end(lambda: pipeline(job, missing, beam_options).run().wait_until_finish())
    finally:
        finished.set()
        background.join(watcher, background.CLOSE_S)


def _run_to_its_end(work: Callable[[], object]) -> None:
    """Does the work on a thread, since Beam waits for ever for a worker process that was killed.

    Raises:
        RunError: one was.
    """
    lost, previous = threading.Event(), threading.excepthook

    def note(failed: threading.ExceptHookArgs) -> None:
        if failed.thread is not None and failed.thread.name == WORKER_THREAD:
            lost.set()
        elif not lost.is_set():  # what its end does to other threads is no news
            previous(failed)

    threading.excepthook = note
    thread = Background("the Beam pipeline", background.CLOSE_S)
    try:
        running = thread.submit(work)
        while not wait([running], timeout=POLL_S).done:
            if lost.is_set():
                raise RunError(
                    "a worker process was killed, maybe for the memory that it took: the same command goes on with the "
                    "shards that are made; pass fewer --workers"
                )
        thread.result(running)
    finally:
        if not running.done():
            for process in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    process.kill()
        thread.close()
        if threading.excepthook is note:  # else a signal has silenced all
            threading.excepthook = previous


def _watch(job: Job, sizes: dict[int, int], progress: Progress, finished: threading.Event) -> None:
    """Reports finished shards, by the bytes of their parts, until the pipeline has ended."""
    total = sum(sizes.values())
    left = set(sizes)
    is_last = False
    while not is_last:
        is_last = finished.wait(POLL_S)
        left = {number for number in left if not job.is_done(number)}
        progress((total - sum(sizes[number] for number in left)) // 1000, total // 1000)
