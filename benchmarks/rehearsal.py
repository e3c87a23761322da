"""A rehearsal of a large run on two cores: the data are generated, the processes are real.

4 trainer processes with 2 fake devices each and 2 builder processes work in one workdir, which is in a bucket
(fake-gcs-server), over corpora of three sizes with a ScaNN index. At the largest, a builder is killed while it joins a
version, and a trainer in mid-step; the same commands go on. What is drawn instead of computed: the corpus
(`drawn_corpus`), the embeddings of version 0, and those of the builders (`drawn_builder`).

    python benchmarks/rehearsal.py                                     1 million blocks
    python benchmarks/rehearsal.py --blocks=30000 --steps=20 --name=   in short, nothing is written

Writes benchmarks/results/rehearsal.json. Linux only.
"""

import argparse
import concurrent.futures
import contextlib
import json
import multiprocessing
import os
import pathlib
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import drawn_corpus
import numpy as np
from anonymous import anonymous_bytes, peak_anonymous
from fake_bucket import fake_bucket
from rehearsed_processes import Processes
from report import write_result

from realm_jax.config import Config, CorpusConfig, IctConfig, IndexConfig, ModelConfig, PretrainConfig
from realm_jax.data.corpus import Corpus
from realm_jax.data.eligible_rows import Wanted, eligible_rows
from realm_jax.data.prepare import open_prepared, prepare
from realm_jax.index.publish import publish
from realm_jax.index.store import IndexStore
from realm_jax.workdir import Workdir, read_json_lines

LOG_EVERY = 5
WARM_UP_LINES = 2  # of metrics, in which programs are compiled
WARM_UP_BLOCKS = 1000  # of a first run that does not count: where results are kept, the others find its programs
STEP_LIMIT, MEMORY_LIMIT = 1.15, 700  # steps as slow as the smallest corpus's; anonymous bytes a block
DRAWN_ROWS = 65_536
QUERIES, SEARCHES = 64, 5
NOTE = "Corpus and block embeddings are drawn, not computed."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--blocks", type=int, default=1_000_000, help="of the largest corpus; the others have 1%%, 10%%"
    )
    parser.add_argument("--sizes", type=int, default=3, choices=(1, 2, 3), help="how many of these, the largest last")
    parser.add_argument("--steps", type=int, default=35, help="until the first new index version is asked for")
    parser.add_argument("--name", default="rehearsal", help="of the result; empty for none")
    parser.add_argument("--trainers", type=int, default=4, help="processes that train together")
    flags = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(f"ended by signal {number}"))  # with all processes
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary, fake_bucket(pathlib.Path(temporary) / "store") as environment:
        os.environ.update(environment, REALM_JAX_CACHE=f"{temporary}/cache", JAX_PLATFORMS="cpu")
        rows, sizes = [], [max(2, flags.blocks // part // 2 * 2) for part in (100, 10, 1)][-flags.sizes :]
        runs = [WARM_UP_BLOCKS, *sizes] if flags.name else sizes
        for blocks in runs:
            rehearsal = Rehearsal.prepare(pathlib.Path(temporary) / f"{len(rows)}-{blocks}", blocks, flags)
            print(json.dumps(rehearsal.prepared), flush=True)
            rows.append(rehearsal.with_kills() if len(rows) == len(runs) - 1 else rehearsal.undisturbed())
            print(json.dumps(rows[-1]), flush=True)
        rows = rows[-flags.sizes :]
    values = {
        "trainers": flags.trainers,
        "rows": rows,
        **judged(rows),
        "minutes": round((time.monotonic() - started) / 60, 1),
    }
    print(json.dumps(values, indent=1))
    if flags.name:
        print(write_result(flags.name, values, NOTE))


def config_of(corpus: pathlib.Path, refresh_every: int) -> Config:
    """A model so small that two cores train it with eight devices, for longer than anybody waits."""
    return Config(
        name="rehearsal",
        model=ModelConfig(
            vocab_size=len(drawn_corpus.VOCABULARY),
            hidden_size=64,
            num_layers=2,
            num_heads=2,
            intermediate_size=256,
            max_positions=192,
            pooling="mean",
            dropout=0.0,
        ),
        corpus=CorpusConfig(knowledge=str(corpus), block_len_tokens=drawn_corpus.BLOCK_LEN_TOKENS),
        ict=IctConfig(steps=0),
        pretrain=PretrainConfig(
            steps=1_000_000,
            batch_size=16,
            query_len_tokens=32,
            max_masks=4,
            index_refresh_every=refresh_every,
            checkpoint_every=refresh_every,
            log_every=LOG_EVERY,
        ),
        index=IndexConfig(dtype="bfloat16", wait_timeout_s=900.0),
    )


@dataclass(frozen=True)
class Rehearsal:
    """A run over a corpus of one size, which has index version 0."""

    workdir: Workdir
    logs: pathlib.Path
    trainers: int
    prepared: dict
    """What was measured on the way."""

    @classmethod
    def prepare(cls, folder: pathlib.Path, blocks: int, flags: argparse.Namespace) -> "Rehearsal":
        corpus = folder / "corpus"
        seconds = {}
        with _timed(seconds, "corpus drawn"):
            drawn_corpus.write(corpus, blocks)
        workdir = Workdir.create(f"gs://bucket/{folder.name}", config_of(corpus, flags.steps))
        with _timed(seconds, "corpus to the bucket and back"):
            prepare(workdir)
        measured = {"spans": sum(len(segment.spans) for segment in Corpus.open(corpus).segments)}
        measured |= _in_fresh_process(measure_eligible, str(corpus), workdir.config)
        with _timed(seconds, "version 0"):
            measured |= _in_fresh_process(publish_drawn, str(workdir.path))
        return cls(workdir, folder / "logs", flags.trainers, {"blocks": blocks, **measured, "seconds": seconds})

    @property
    def store(self) -> IndexStore:
        return IndexStore(self.workdir.index_folder)

    def undisturbed(self) -> dict:
        """Trains until the builders have published a version of their own."""
        with Processes(self.workdir, self.logs, self.trainers) as running:
            running.wait_until("the builders publish", lambda: len(self._published()) >= 2)
            running.stop()
        return self._measured(running)

    def with_kills(self) -> dict:
        """Lets builders build beside the training, kills one of each, and ends once both kinds have gone on."""
        with Processes(self.workdir, self.logs, self.trainers) as running:
            running.kill_builder(running.wait_until("a builder joins", lambda: running.joining(self.store)))
            running.wait_until("the other builder publishes", lambda: len(self._published()) >= 2)
            running.wait_until("both builders publish the next", lambda: len(self._published()) >= 3)
            newest = self._published()[-1]["step"]
            running.wait_until("the trainers adopt it", lambda: self._adopted() >= newest)
            ended_s, saved = running.kill_trainer(), self._saved()
            running.start_trainers()
            running.wait_until("they go on to another checkpoint", lambda: self._saved() > saved)
            running.stop()
        resumed = running.resumed_from()
        times = [event["time"] for event in self._published()[1:]]
        return self._measured(running) | {
            "seconds of a build, two builders": [event["seconds"] for event in self._published()[1:]],
            "seconds between versions": round(times[1] - times[0]),
            "seconds until the other trainers ended": ended_s,
            "resumed from step": resumed,
        }

    def _measured(self, running: Processes) -> dict:
        lines, _ = read_json_lines(self.workdir.phase("pretrain") / "metrics.jsonl")
        limit = self.workdir.config.pretrain.index_refresh_every
        idle = [line for line in lines if line["step"] <= limit][WARM_UP_LINES:]
        busy = [line["step_seconds"] for line in lines if line["step"] > limit]
        found = {
            "step seconds, builders idle": round(statistics.median(line["step_seconds"] for line in idle), 4),
            "of these, waiting for retrieval": round(
                statistics.median(line["retrieval_wait_seconds"] / LOG_EVERY for line in idle), 4
            ),
        }
        if busy:
            found["step seconds, builders at work"] = round(statistics.median(busy), 4)
        searcher = _in_fresh_process(measure_searcher, str(self.workdir.path))
        return self.prepared | found | running.memory() | searcher

    def _published(self) -> list[dict]:
        return [event for event in self.store.history() if event["event"] == "published"]

    def _adopted(self) -> int:
        """The step of the version that was adopted last."""
        return [event["step"] for event in self.store.history() if event["event"] == "adopted"][-1]

    def _saved(self) -> int:
        """The step of the last checkpoint."""
        folder = self.workdir.phase("pretrain") / "checkpoints"
        return max(int(path.name) for path in folder.iterdir() if path.name.isdecimal())


def judged(rows: list[dict]) -> dict:
    """Growth from the smallest to the largest corpus, and what exceeds its limit."""
    first, last = rows[0], rows[-1]
    steps = {row["blocks"]: row["step seconds, builders idle"] for row in rows}
    slower = round(max(steps.values()) / steps[first["blocks"]], 3)
    grown = last["blocks"] - first["blocks"]
    found = {"slowest step over that of the smallest corpus": slower}
    for name in ("trainer", "searcher"):
        key = f"anonymous MB of a {name}"
        found[f"bytes a block of a {name}"] = round((last[key] - first[key]) * 1e6 / grown, 1)
    limits = {"slowest step over that of the smallest corpus": STEP_LIMIT}
    limits |= {f"bytes a block of a {name}": MEMORY_LIMIT for name in ("trainer", "searcher")}
    return {**found, "did not scale": [name for name, limit in limits.items() if found[name] > limit]}


def measure_eligible(corpus: str, config: Config) -> dict:
    """Seconds and anonymous memory of finding the spans that can be masked, by both policies."""
    found, opened = {}, Corpus.open(corpus)
    for name, answer_elsewhere in (("eligible rows", False), ("eligible rows, answer elsewhere", True)):
        wanted = Wanted("spans", "block", config.corpus.heldout_fraction, False, 32, answer_elsewhere)
        before, started = anonymous_bytes(), time.monotonic()
        with peak_anonymous() as peak:
            eligible_rows(opened, wanted, None)
        found[f"{name}, seconds"] = round(time.monotonic() - started, 2)
        found[f"{name}, MB at the peak"] = round(max(0, peak[0] - before) / 1e6, 1)
    return found


def publish_drawn(path: str) -> dict:
    """Publishes version 0 with drawn embeddings; returns what its search files took."""
    workdir = Workdir.open(path)
    store, data, config = IndexStore(workdir.index_folder), open_prepared(workdir), workdir.config
    blocks, rng = data.knowledge.num_blocks, np.random.default_rng(0)
    before, started = anonymous_bytes(), time.monotonic()
    with store.begin(0) as draft, peak_anonymous() as peak:
        embeddings = draft.embeddings(blocks, config.model.projection_dim, config.index.dtype)
        for start in range(0, blocks, DRAWN_ROWS):
            rows = embeddings[start : start + DRAWN_ROWS]
            rows[:] = rng.standard_normal(rows.shape, np.float32)
        publish(draft, store, embeddings, data.knowledge, config.index, tower=None, embedded_by="drawn")
    return {
        "version 0, seconds": round(time.monotonic() - started, 1),
        "version 0, bytes a block at the peak": round((peak[0] - before) / blocks),
    }


def measure_searcher(path: str) -> dict:
    """Anonymous memory of a process that has the newest version open and searches it."""
    workdir = Workdir.open(path)
    version, config = IndexStore(workdir.index_folder).latest(), workdir.config
    from realm_jax.index.loaded_index import load

    corpus = open_prepared(workdir).knowledge
    loaded, rng = load(version, corpus, config.index, config.index.search), np.random.default_rng(1)
    for _ in range(SEARCHES):
        ids, _ = loaded.search.search(rng.standard_normal((QUERIES, loaded.embeddings.shape[1]), np.float32), 8)
        corpus.embedder_tokens(ids, drawn_corpus.BLOCK_LEN_TOKENS)
        corpus.block_hashes(ids)
    return {"anonymous MB of a searcher": round(anonymous_bytes() / 1e6, 1)}


def _in_fresh_process(function: Callable[..., dict], *arguments) -> dict:
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


@contextlib.contextmanager
def _timed(seconds: dict, name: str) -> Iterator[None]:
    started = time.monotonic()
    yield
    seconds[name] = round(time.monotonic() - started, 1)


if __name__ == "__main__":
    main()
