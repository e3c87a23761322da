"""A version that several builders embed has the bits of one builder's, whoever dies on the way; it appears once."""

import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from realm_jax.checkpoints import Checkpoints
from realm_jax.config import RunError
from realm_jax.data.prepare import open_prepared
from realm_jax.heartbeat import this_process
from realm_jax.index.embed_blocks import embed_corpus, ranges_of
from realm_jax.index.index_builder import IndexBuilder, fingerprint
from realm_jax.index.store import IndexStore
from realm_jax.training import phases
from realm_jax.workdir import write_json

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
RANGE_TOKENS = 1500
DEADLINE_S = 180.0


@pytest.fixture(scope="module")
def params(tiny_run):
    return phases.first_params(tiny_run)["embedder"]


def builder_of(workdir, store=None) -> IndexBuilder:
    store = store or IndexStore(workdir.index_folder)
    return IndexBuilder(workdir.config, open_prepared(workdir), store, range_tokens=RANGE_TOKENS)


def published(store) -> list[int]:
    return [event["step"] for event in store.history() if event["event"] == "published"]


def wait_for(condition, what=""):
    deadline = time.monotonic() + DEADLINE_S
    while not (value := condition()):
        assert time.monotonic() < deadline, what() if callable(what) else what
        time.sleep(0.02)
    return value


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_three_builders_make_the_version_of_one(new_run, params, dtype, tmp_path, capfd, between_batches):
    workdir = new_run(index={"dtype": dtype, "embed_batch_tokens": 512})
    alone = builder_of(workdir, IndexStore(tmp_path / "alone")).build(5, params)
    corpus = open_prepared(workdir).knowledge
    expected = np.empty((corpus.num_blocks, workdir.config.model.projection_dim), np.float32)
    embed_corpus(workdir.config, params, corpus, expected)
    np.testing.assert_allclose(alone.load_embeddings().astype(np.float32), expected, rtol=2**-7, atol=1e-4)
    made, together = [], threading.Barrier(3)
    between_batches(lambda: time.sleep(0.01))

    def build():
        builder = builder_of(workdir)
        together.wait()
        made.append(builder.build(5, params))

    threads = [threading.Thread(target=build) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=DEADLINE_S)
    store = IndexStore(workdir.index_folder)
    assert published(store) == [5] and {version.name for version in made} == {store.latest().name} and len(made) == 3
    np.testing.assert_array_equal(store.latest().load_embeddings(), alone.load_embeddings())
    assert store.latest().manifest["files"]["embeddings.npy"] == alone.manifest["files"]["embeddings.npy"]
    assert not (workdir.index_folder / "work").exists()
    assert "other processes embedded" in capfd.readouterr().out


def test_a_version_is_built_once(new_run, params):
    workdir = new_run()
    first = builder_of(workdir).build(5, params)
    assert builder_of(workdir).build(5, params).name == first.name
    assert published(IndexStore(workdir.index_folder)) == [5]


def test_other_weights_of_the_same_step_make_a_version_of_their_own(new_run, params):
    import jax

    workdir = new_run()
    builder_of(workdir).build(5, params)
    builder_of(workdir).build(5, jax.tree.map(lambda x: x + 1, params))
    assert published(IndexStore(workdir.index_folder)) == [5, 5]


def test_parts_of_the_dead_are_used_and_what_they_joined_is_done_again(new_run, params, tmp_path):
    """A builder that died left one range, handed over; here it says 7, so that its use is seen."""
    workdir = new_run()
    store, builder = IndexStore(workdir.index_folder), builder_of(workdir)
    gone = {**this_process(), "started": -1e6}
    with store.shared_work(5, fingerprint(params)) as work:
        folder = work.folder
        corpus = open_prepared(workdir).knowledge
        work.hand_over(1, np.full((len(ranges(corpus)[1]), workdir.config.model.projection_dim), 7, np.float32))
        write_json(folder / "part-00000.000.json", gone)
        write_json(folder / "join.000.json", gone)
    version = builder.build(5, params)
    alone = builder_of(workdir, IndexStore(tmp_path / "alone")).build(5, params).load_embeddings()
    rows = ranges(corpus)[1]
    expected = np.array(alone)
    expected[rows.start : rows.stop] = 7
    np.testing.assert_array_equal(version.load_embeddings(), expected)


def ranges(corpus):
    return ranges_of(corpus.lengths, RANGE_TOKENS)


def test_a_corpus_that_grew_meanwhile_is_that_of_the_first(new_run, params):
    """The first builder saw one segment; the second one, which sees more, embeds only these blocks."""
    from realm_jax.data import corpus_writer, salient
    from realm_jax.data.corpus import Corpus
    from realm_jax.records import Record

    workdir = new_run()
    data = open_prepared(workdir)
    before = data.knowledge.num_blocks
    plan = {"segments": 1, "blocks": before, "ranges": len(ranges(data.knowledge))}
    write_json(
        workdir.index_folder / "work" / f"00000005-{fingerprint(params)}" / "plan.json", plan
    )  # and then it died
    records = [Record("new", "New", "Something else happened in Paris in 1871.", "")]
    corpus_writer.append(records, workdir.knowledge_folder, tokenizer=data.tokenizer, tag=salient.make_tagger("rules"))
    builder_of(workdir).build(5, params)
    versions = IndexStore(workdir.index_folder).versions()
    assert [version.manifest["num_blocks"] - before for version in versions] == [0, 1]  # then it was extended
    assert [len(version.manifest["segment_hashes"]) for version in versions] == [1, 2]
    assert versions[-1].is_current(Corpus.open(workdir.knowledge_folder))


def test_others_that_do_nothing_have_a_deadline(new_run, params):
    workdir = new_run(index={"wait_timeout_s": 0.5})
    folder = workdir.index_folder / "work" / f"00000005-{fingerprint(params)}"
    other = {"host": "elsewhere", "pid": 7, "started": 1.0}
    write_json(folder / "pins" / "elsewhere-7.json", {**other, "time": time.time()})
    write_json(folder / "part-00001.000.json", other)
    with pytest.raises(RunError, match="other processes had nothing done for 0 s: look at them"):
        builder_of(workdir).build(5, params)
    write_json(folder / "join.000.json", other)
    with pytest.raises(RunError, match="other processes had nothing done for 0 s: look at them"):
        builder_of(workdir).build(5, params)
    assert IndexStore(workdir.index_folder).latest() is None


BUILDER = f"""
import functools, pathlib, sys, time
folder, name, role = sys.argv[1:]
from realm_jax.data.prepare import open_prepared
from realm_jax.index import follow_trainer
from realm_jax.index.index_builder import IndexBuilder
from realm_jax.index.store import IndexStore
from realm_jax.training import phases
from realm_jax.workdir import Workdir
from realm_jax import console, faults
console.set_up()
workdir = Workdir.open(folder)
hold, held = (pathlib.Path(folder) / f"{{word}}-{{name}}" for word in ("hold", "held"))
def point(name):
    if name == "embedding":
        held.touch()
        while hold.exists():
            time.sleep(0.01)
faults.point = point
if role == "follow":
    follow_trainer.IndexBuilder = functools.partial(IndexBuilder, range_tokens={RANGE_TOKENS})
    follow_trainer.follow(workdir)
else:
    builder = IndexBuilder(workdir.config, open_prepared(workdir), IndexStore(workdir.index_folder),
                           range_tokens={RANGE_TOKENS})
    builder.build(5, phases.first_params(workdir)["embedder"])
"""


@pytest.fixture
def start(cache):
    """Starts a builder process of the name; it stops after a batch while W/hold-NAME exists; W/held-NAME says so."""
    started = []

    def begin(workdir, name, *, role="build", hold=False) -> subprocess.Popen:
        if hold:
            (workdir.path / f"hold-{name}").touch()
        environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "1", "REALM_JAX_CACHE": str(cache)}
        log = open(workdir.path / f"{name}.log", "w")
        command = [sys.executable, "-c", BUILDER, str(workdir.path), name, role]
        process = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=log, stderr=subprocess.STDOUT)
        process.log = pathlib.Path(log.name)
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()


def finish(process) -> str:
    assert process.wait(timeout=DEADLINE_S) == 0, process.log.read_text()[-3000:]
    return process.log.read_text()


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()


def held(workdir, name):
    wait_for(lambda: (workdir.path / f"held-{name}").exists(), f"{name} never came to a batch")


ALONE: dict[str, np.ndarray] = {}


@pytest.fixture
def alone(start, new_run):
    """The embeddings of a single process with one device."""
    if not ALONE:
        workdir = new_run("alone", index={"embed_batch_tokens": 512})
        finish(start(workdir, "alone"))
        ALONE["embeddings"] = np.array(IndexStore(workdir.index_folder).latest().load_embeddings())
    return ALONE["embeddings"]


@pytest.mark.slow
def test_a_range_of_a_killed_builder_is_taken_over(start, new_run, alone):
    workdir = new_run(index={"embed_batch_tokens": 512})
    joins = start(workdir, "joins", hold=True)
    held(workdir, "joins")
    helps = start(workdir, "helps", hold=True)
    held(workdir, "helps")
    kill(helps)
    (workdir.path / "hold-joins").unlink()
    assert f"part-00001 is taken over from process {helps.pid} on" in finish(joins)
    store = IndexStore(workdir.index_folder)
    np.testing.assert_array_equal(store.latest().load_embeddings(), alone)
    assert published(store) == [5] and not (workdir.index_folder / "work").exists()


@pytest.mark.slow
def test_joining_is_taken_over_from_a_killed_builder(start, new_run, alone):
    workdir = new_run(index={"embed_batch_tokens": 512})
    joins = start(workdir, "joins", hold=True)
    held(workdir, "joins")
    others = [start(workdir, name) for name in ("second", "third")]
    (folder,) = (workdir.index_folder / "work").glob("*")
    wait_for(lambda: list(folder.glob("part-*.npy")), "nothing was handed over")
    kill(joins)
    said = "".join(finish(process) for process in others)
    assert f"join is taken over from process {joins.pid} on" in said
    assert f"part-00000 is taken over from process {joins.pid} on" in said
    store = IndexStore(workdir.index_folder)
    np.testing.assert_array_equal(store.latest().load_embeddings(), alone)
    assert published(store) == [5]
    assert [path.name for path in workdir.index_folder.glob("step-*")] == [store.latest().name]
    assert not (workdir.index_folder / "work").exists()


@pytest.mark.slow
def test_two_builders_follow_one_trainer(start, new_run, params):
    workdir = new_run(index={"embed_batch_tokens": 512})
    store, builders = IndexStore(workdir.index_folder), [start(workdir, name, role="follow") for name in ("a", "b")]
    with Checkpoints(workdir.phase("pretrain")) as checkpoints:
        for step in (2, 4, 6):
            checkpoints.save(step, {"embedder": params}, {"count": np.int32(step)}, {"position": step})
            checkpoints.wait()
            wait_for(lambda step=step: (newest := store.latest()) and newest.step == step)
        workdir.mark_done("pretrain", 6)
    said = "".join(finish(builder) for builder in builders)
    assert published(store) == [2, 4, 6]
    assert "ranges of blocks for another process" in said and "other processes embedded" in said
