"""A workdir in a bucket, against fake-gcs-server on this machine: each kind of file by itself, then whole runs."""

import json
import os
import pathlib
import runpy
import shutil
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from etils import epath

from realm_jax import buckets, workdir
from realm_jax.checkpoints import Checkpoints
from realm_jax.checksums import Damaged
from realm_jax.config import ConfigError
from realm_jax.data import corpus_writer, eligible_rows, run_tokenizer
from realm_jax.data.corpus import Corpus
from realm_jax.data.eligible_rows import Wanted
from realm_jax.data.prepare import open_prepared
from realm_jax.data.sources import sources
from realm_jax.heartbeat import this_process
from realm_jax.index.index_builder import IndexBuilder, fingerprint
from realm_jax.index.knowledge_update import _only_claim
from realm_jax.index.store import IndexStore
from realm_jax.local_cache import cache_dir
from realm_jax.records import Record
from realm_jax.training import phases
from realm_jax.training.metrics import MetricsWriter
from realm_jax.training.only_trainer import only_trainer
from tests.damage import flip_a_bit

REPOSITORY = pathlib.Path(__file__).resolve().parents[1]
FIELDS = {"segment_hashes": ["a1"], "search": "exact", "search_info": {}}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """The local folder behind gs://bucket."""
    folder = tmp_path_factory.mktemp("store")
    fake_bucket = runpy.run_path(str(REPOSITORY / "benchmarks" / "fake_bucket.py"))["fake_bucket"]
    with fake_bucket(folder) as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        yield folder / "bucket"


@pytest.fixture
def here(store, request):
    """A folder in the bucket for one test."""
    return epath.Path("gs://bucket") / request.node.name.replace("[", "-").strip("]")


def on_disk(store, path) -> pathlib.Path:
    """The emulator's own file of an object."""
    return store / os.fspath(path).removeprefix("gs://bucket/")


def run_python(script, *arguments):
    return subprocess.run([sys.executable, "-c", script, *map(str, arguments)], capture_output=True, text=True)


def test_what_another_process_writes_is_seen_at_once(here):
    workdir.write_json(here / "a" / "1.json", {})
    assert [path.name for path in (here / "a").iterdir()] == ["1.json"]
    assert not (here / "a" / "2.json").exists()
    script = "import sys; from realm_jax.workdir import write_json; write_json(sys.argv[1], {'zwei': 'zwölf'})"
    assert run_python(script, here / "a" / "2.json").returncode == 0
    assert sorted(path.name for path in (here / "a").glob("*")) == ["1.json", "2.json"]
    assert workdir.read_json(here / "a" / "2.json") == {"zwei": "zwölf"}


def test_a_file_grows(here, monkeypatch):
    monkeypatch.setattr(buckets, "REWRITE_S", 0.0)
    file = buckets.GrowingFile(here / "lines")
    file.append("one\n")
    file.append("two\n")
    assert (here / "lines").read_text() == "one\ntwo\n"
    monkeypatch.setattr(buckets, "REWRITE_S", 1e9)
    again = buckets.GrowingFile(here / "lines")
    again.append("three\n")
    assert (here / "lines").read_text() == "one\ntwo\n"
    again.flush()
    assert (here / "lines").read_text() == "one\ntwo\nthree\n"


def test_the_file_that_readers_look_for_comes_last(here, tmp_path, monkeypatch):
    for name in ("entry.json", "z.bin", "part/a.bin"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    calls, copy_files = [], buckets.copy_files
    monkeypatch.setattr(buckets, "copy_files", lambda names, *where: (calls.append(names), copy_files(names, *where)))
    buckets.upload(tmp_path, here / "shard", last="entry.json")
    assert [sorted(names) for names in calls] == [["part/a.bin", "z.bin"], ["entry.json"]]
    assert (here / "shard" / "part" / "a.bin").read_text() == "part/a.bin"


def test_metrics_of_a_resumed_phase(here):
    for first, steps in ((0, (1, 2, 3)), (2, (3, 4))):
        writer = MetricsWriter(here, "ict", 4, first)
        for step in steps:
            writer.write(step, {"loss": float(step)})
        writer.close()
    assert [json.loads(line)["step"] for line in (here / "metrics.jsonl").read_text().splitlines()] == [1, 2, 3, 4]
    assert any((here / "tensorboard").glob("events.*"))


def test_eligible_rows_are_found_by_the_first_machine(here, tiny_run, tmp_path, monkeypatch):
    corpus, wanted = Corpus.open(tiny_run.knowledge_folder), Wanted("spans", "block", 0.2, False, 24, False)
    monkeypatch.setenv("REALM_JAX_CACHE", str(tmp_path / "a"))
    first = eligible_rows.eligible_rows(corpus, wanted, here / "examples")
    monkeypatch.setattr(eligible_rows, "_make", None)
    monkeypatch.setenv("REALM_JAX_CACHE", str(tmp_path / "b"))  # another machine
    second = eligible_rows.eligible_rows(corpus, wanted, here / "examples")
    assert second.rows.tolist() == first.rows.tolist() and second.limits.tolist() == first.limits.tolist()
    assert second.skipped == first.skipped and len(list((tmp_path / "b" / "examples").iterdir())) == 1


def test_checkpoints(here):
    params = {"embedder": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3)}}
    with Checkpoints(here) as checkpoints:
        for step in range(5):
            scaled = {"embedder": {"kernel": params["embedder"]["kernel"] * step}}
            checkpoints.save(step, scaled, {"count": np.int32(step)}, {"position": step})
        checkpoints.wait()
        with Checkpoints(here, read_only=True) as reader:
            assert reader.latest_step() == 4
            read = reader.restore_params(4, params)
            checkpoints.save(5, params, {"count": np.int32(5)}, {"position": 5})
            checkpoints.wait()
            assert reader.latest_step() == 5
        np.testing.assert_array_equal(read["embedder"]["kernel"], params["embedder"]["kernel"] * 4)
        restored, optimizer, data = checkpoints.restore(5, params, {"count": np.int32(0)})
        assert (int(optimizer["count"]), data) == (5, {"position": 5})
    kept = {path.name for path in (here / "checkpoints").iterdir()}
    assert kept == {"3", "4", "5"}


def test_a_damaged_checkpoint_is_set_aside(store, here):
    params = {"embedder": {"kernel": np.random.default_rng(0).normal(size=(300, 1000)).astype(np.float32)}}
    with Checkpoints(here) as checkpoints:
        for step in (3, 6):
            checkpoints.save(step, params, {"count": np.int32(step)}, {"position": step})
    saved = on_disk(store, here) / "checkpoints" / "6"
    largest = max((saved / "embedder").rglob("*"), key=lambda file: file.stat().st_size)
    flip_a_bit(here / "checkpoints" / "6" / largest.relative_to(saved), largest.stat().st_size // 2)
    written = {file.relative_to(saved): file.read_bytes() for file in saved.rglob("*") if file.is_file()}
    with Checkpoints(here) as checkpoints:
        with pytest.raises(Damaged, match="6 is damaged .*embedder"):
            checkpoints.restore(6, params, {"count": np.int32(0)})
        aside = checkpoints.set_aside(6)
        assert checkpoints.latest_step() == 3 and checkpoints.set_aside(3) is None
        restored, _, data = checkpoints.restore(3, params, {"count": np.int32(0)})
        np.testing.assert_array_equal(restored["embedder"]["kernel"], params["embedder"]["kernel"])
        assert data == {"position": 3} and not (here / "checkpoints" / "6").exists()
    kept = on_disk(store, aside)
    assert {file.relative_to(kept): file.read_bytes() for file in kept.rglob("*") if file.is_file()} == written


def test_a_corpus_is_the_one_on_a_disk(store, here, tiny_run, corpus_file, tmp_path):
    local = Corpus.open(tiny_run.knowledge_folder)
    records = sources.read(str(corpus_file)).records
    (on_disk(store, here) / "corpus" / "segment-00000").mkdir(parents=True)
    (on_disk(store, here) / "corpus" / "segment-00000" / "text.bin").write_text("of a build that was killed")
    arguments = {
        "tokenizer": run_tokenizer.load(tiny_run.tokenizer_file),
        "tag": corpus_tagger(),
        "block_len_tokens": local.block_len_tokens,
        "description": local.manifest["description"],
    }
    made = corpus_writer.build(records(), here / "corpus", **arguments)
    assert made.hash == local.hash and made.folder == here / "corpus"
    np.testing.assert_array_equal(
        made.embedder_tokens(np.arange(9), 48).ids, local.embedder_tokens(np.arange(9), 48).ids
    )
    with pytest.raises(ConfigError, match="not an empty folder"):
        corpus_writer.build(records(), here / "corpus", **arguments)
    more = [Record("new", "New", "Something else happened in Paris in 1871.", "")]
    grown = corpus_writer.append(
        more, here / "corpus", tokenizer=arguments["tokenizer"], tag=arguments["tag"], deleted=[0]
    )
    assert grown.block(local.num_blocks).title == "New"
    assert Corpus.open(here / "corpus").tombstones.tolist() == [0]


def corpus_tagger():
    from realm_jax.data import salient

    return salient.make_tagger("rules")


def test_a_damaged_segment_is_refused(store, here, tiny_run):
    buckets.upload(pathlib.Path(tiny_run.knowledge_folder), here, last="manifest.json")
    manifest = workdir.read_json(here / "manifest.json")
    copies = cache_dir() / "segments" / manifest["segments"][0]["hash"]
    if copies.exists():
        copies.rename(copies.with_name("of another test"))
    flip_a_bit(here / "segment-00000" / "tokens.bin", 7)
    with pytest.raises(ConfigError, match="differs from its checksum: build"):
        Corpus.open(here)
    assert not copies.exists()


def test_index_versions(store, here, monkeypatch):
    index = IndexStore(here / "index")
    for step in (0, 5, 9):
        with index.begin(step) as draft:
            draft.embeddings(4, 3, "bfloat16")[:] = step
            draft.publish(FIELDS)
    newest = index.latest()
    assert newest.step == 9 and (newest.load_embeddings() == 9).all()
    assert newest.local_folder().parent == epath.Path(cache_dir()) / "index"
    first = index.versions()[0]
    assert index.pin(first)
    index.prune(1)
    assert [version.step for version in index.versions()] == [0, 9]
    index.unpin(first)
    index.prune(1)
    assert [version.step for version in index.versions()] == [9]
    left = [path.name for path in on_disk(store, here / "index").glob("step-*/*") if path.is_file()]
    assert sorted(left) == ["embeddings.npy", "manifest.json"]
    events = [(event["event"], event.get("step")) for event in index.history()]
    assert events[:3] == [("published", 0), ("published", 5), ("published", 9)]
    assert [event for event, _ in events[3:]] == ["pruned", "pruned"]


def test_a_workdir_is_copied_to_a_bucket_and_back(store, here, tmp_path):
    params = {"embedder": {"kernel": np.ones((2, 3), np.float32)}}
    places = [epath.Path(tmp_path / "first"), here, epath.Path(tmp_path / "back")]
    for step, place in enumerate(places):
        with Checkpoints(place) as checkpoints:
            assert checkpoints.latest_step() == (step - 1 if step else None)
            checkpoints.save(step, params, {"count": np.int32(step)}, {"position": step})
        index = IndexStore(place / "index")
        with index.begin(step) as draft:
            draft.embeddings(4, 3, "float32")[:] = step
            draft.publish(FIELDS)
        assert [event["step"] for event in index.history()] == list(range(step + 1))
        assert (index.versions()[0].load_embeddings() == 0).all()
        if step == 0:
            buckets.upload(tmp_path / "first", here, last="")
        elif step == 1:
            shutil.copytree(on_disk(store, here), tmp_path / "back")


def test_a_damaged_version_is_refused(here, monkeypatch, tmp_path):
    index = IndexStore(here / "index")
    with index.begin(1) as draft:
        draft.embeddings(4, 3, "float32")[:] = 1
        version = draft.publish(FIELDS)
    monkeypatch.setenv("REALM_JAX_CACHE", str(tmp_path))  # another machine
    flip_a_bit(version.folder / "embeddings.npy")
    with pytest.raises(ConfigError, match="embeddings.npy differs from its checksum"):
        index.latest().load_embeddings()
    assert not any((tmp_path / "index").glob("*"))


def test_a_killed_builder_leaves_no_version(here):
    script = (
        "import os, sys; from realm_jax.index.store import IndexStore\n"
        "draft = IndexStore(sys.argv[1]).begin(5); draft.embeddings(10, 2, 'float32')[:] = 1\n"
        "os.kill(os.getpid(), 9)"
    )
    assert run_python(script, here / "index").returncode == -signal.SIGKILL
    index = IndexStore(here / "index")
    assert index.latest() is None and len(list((here / "index").iterdir())) == 1
    index.prune(1)
    assert not (here / "index").exists()


def test_one_alone_makes_an_object(here):
    assert workdir.create_json(here / "claim.json", {"of": 1}) and not workdir.create_json(here / "claim.json", {})
    assert workdir.read_json(here / "claim.json") == {"of": 1}
    assert workdir.create_json(here / "claim.json", {"of": 1})  # the same request once more


def test_builders_share_a_version(store, here, tiny_run, tmp_path, between_batches):
    """Two builders; a third one was killed, and left what it had taken."""
    data, params = open_prepared(tiny_run), phases.first_params(tiny_run)["embedder"]
    version = IndexBuilder(tiny_run.config, data, IndexStore(tmp_path), range_tokens=1500).build(5, params)
    index, made = IndexStore(here / "index"), []
    with index.shared_work(5, fingerprint(params)) as work:
        gone = {**this_process(), "started": -1e6}
        workdir.write_json(work.folder / "part-00001.000.json", gone)
        workdir.write_json(work.folder / "join.000.json", gone)
    builder = IndexBuilder(tiny_run.config, data, index, range_tokens=1500)
    between_batches(lambda: time.sleep(0.05))
    threads = [threading.Thread(target=lambda: made.append(builder.build(5, params))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=300)
    assert [event["step"] for event in index.history() if event["event"] == "published"] == [5] and len(made) == 2
    np.testing.assert_array_equal(index.latest().load_embeddings(), version.load_embeddings())
    assert not any(path.is_file() for path in on_disk(store, here / "index" / "work").rglob("*"))


def test_one_update_at_a_time(here):
    with _only_claim(here, "busy"):
        with (
            pytest.raises(ConfigError, match="busy; or, if its host was lost, delete gs://"),
            _only_claim(here, "busy"),
        ):
            raise AssertionError
    with _only_claim(here, "busy"):
        pass
    assert not here.exists()


HOLDS = """
import sys, time
from etils import epath
from realm_jax.training import only_trainer
only_trainer.RENEW_EVERY_S = 0.2
with only_trainer.only_trainer(epath.Path(sys.argv[1])):
    print("holds", flush=True)
    time.sleep(300)
"""


def test_no_second_trainer_in_a_bucket_and_a_killed_one_keeps_nobody_out(here):
    file = here / "trainer.lock"
    with subprocess.Popen([sys.executable, "-c", HOLDS, str(file)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "holds\n"
        told = f"^{here} is being trained by process {process.pid} on "
        with pytest.raises(ConfigError, match=told), only_trainer(file):
            raise AssertionError
        process.kill()
    with only_trainer(file):
        pass
    assert not here.exists()


def test_a_trainer_that_stood_still_ends_when_another_one_has_taken_over(here):
    file = here / "trainer.lock"
    with subprocess.Popen([sys.executable, "-c", HOLDS, str(file)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "holds\n"
        workdir.write_json(file / "join.001.json", {**this_process(), "claim": "another one's"})
        assert process.wait(timeout=60) == 1


def refused(script, path="gs://bucket/run") -> str:
    """The line in which a command says why it does not begin; gcsfs may have logged something before."""
    begin = f"import sys; sys.argv = ['run', '--config=experiments/mini.py', '--workdir={path}']\n"
    done = run_python(begin + script + "from realm_jax.__main__ import main; main(['run', *sys.argv[1:]])")
    last = done.stderr.splitlines()[-1]
    assert done.returncode == 2 and last.startswith("error: "), done.stderr[-2000:]
    return last


def test_without_gcsfs_the_extra_is_named():
    assert refused("sys.modules['gcsfs'] = None\n").endswith("need gcsfs: pip install 'realm_jax[gcs]'")


def test_a_bucket_that_is_not_there(store):
    assert "gs://none/run: there is no such bucket" in refused("", "gs://none/run")


@pytest.mark.parametrize("status", [401, 403])
def test_a_bucket_without_rights(status):
    server = (
        "import http.server, os, threading\n"
        "class Refuse(http.server.BaseHTTPRequestHandler):\n"
        f"    def do_GET(self): self.send_error({status})\n"
        "    def log_message(self, *arguments): pass\n"
        "server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Refuse)\n"
        "threading.Thread(target=server.serve_forever, daemon=True).start()\n"
        "os.environ['STORAGE_EMULATOR_HOST'] = f'http://127.0.0.1:{server.server_port}'\n"
    )
    assert "roles/storage.objectUser" in refused(server)


SHORT = [
    "--ict.steps=8",
    "--ict.checkpoint_every=8",
    "--pretrain.steps=40",
    "--pretrain.checkpoint_every=10",
    "--pretrain.index_refresh_every=10",
    "--pretrain.eval_examples=16",
    "--pretrain.recall_examples=32",
    "--pretrain.log_every=5",
]


def command(name, *flags, cache, **options):
    """A command in a process of its own, with one device."""
    environment = {**os.environ, "JAX_NUM_CPU_DEVICES": "1", "REALM_JAX_CACHE": str(cache)}
    arguments = [sys.executable, "-m", "realm_jax", name, *flags]
    return subprocess.Popen(arguments, cwd=REPOSITORY, env=environment, text=True, **options)


def done(name, *flags, cache) -> str:
    """What a command printed that succeeded."""
    process = command(name, *flags, cache=cache, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    out, errors = process.communicate(timeout=900)
    assert process.returncode == 0, errors[-3000:]
    return out


@pytest.mark.slow
def test_a_run_that_is_killed_and_goes_on_elsewhere(store, tmp_path):
    folder = epath.Path("gs://bucket/whole")
    source = "--source=realm_jax/data/mini_corpus.jsonl"
    build = [source, "--format=jsonl", f"--out={folder}/corpus", "--block_len_tokens=48", "--shard_mb=1", "--workers=1"]
    vocabulary = tmp_path / "tokenizer.json"
    run_tokenizer.train([r.text for r in sources.read("asset:mini").records()], 3000).save(str(vocabulary))
    done("corpus", *build, f"--tokenizer={vocabulary}", cache=tmp_path / "a")
    run = ["--config=experiments/mini.py", f"--workdir={folder}/run", f"--corpus={folder}/corpus", *SHORT]
    killed = command("run", *run, cache=tmp_path / "a", stdout=subprocess.DEVNULL)
    commit = folder / "run" / "pretrain" / "checkpoints" / "20" / "commit_success.txt"
    while not commit.exists():
        assert killed.poll() is None
        time.sleep(0.2)
    killed.kill()
    killed.wait()
    out = done("run", *run, cache=tmp_path / "b")  # another machine: nothing is in its cache
    assert "pretrain: resuming from step" in out and "40 steps done" in out

    trained = workdir.Workdir.open(folder / "run")
    lines = (trained.phase("pretrain") / "metrics.jsonl").read_text().splitlines()
    steps = [json.loads(line)["step"] for line in lines]
    assert steps == sorted(set(steps)) and steps[-1] == 40
    kept = {path.name for path in (trained.phase("pretrain") / "checkpoints").iterdir()}
    assert kept == {"20", "30", "40"}
    index = IndexStore(trained.index_folder)
    versions = index.versions()
    assert versions[-1].step == 40 and len(versions) <= trained.config.index.keep_versions + 1
    assert [e["step"] for e in index.history() if e["event"] == "adopted"]

    where, cache = f"--workdir={folder}/run", tmp_path / "b"
    done("builder", where, cache=cache)
    short = ["--finetune.epochs=1", "--finetune.train_questions=64", "--finetune.dev_questions=16"]
    done("finetune", where, "--dataset=cloze", *short, cache=cache)
    assert "written: gs://bucket/whole/run/eval/cloze/report.html" in done("eval", where, "--questions=16", cache=cache)
    record = {"id": "new", "title": "Zorblax", "text": "Zorblax is a town in the north of Examplia."}
    (tmp_path / "new.jsonl").write_text(json.dumps(record) + "\n")
    done("update", where, f"--add={tmp_path / 'new.jsonl'}", cache=cache)
    assert index.latest().manifest["num_blocks"] == versions[-1].manifest["num_blocks"] + 1
    # What trainer and builder held is gone with them; the last command held the newest version and the one before.
    assert len(list((cache / "index").iterdir())) <= 2
    assert "Examplia" in done("show", f"{folder}/run", "--search=zorblax", cache=cache)
    seen = json.loads(done("inspect", f"{folder}/run", "--json", cache=cache))
    assert {phase["name"]: phase["step"] for phase in seen["phases"]}["pretrain"] == 40 and not seen["problems"]
    assert [version["name"] for version in seen["indexes"][0]["versions"]] == [v.name for v in index.versions()]
