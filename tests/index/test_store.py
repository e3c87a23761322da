import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time

import ml_dtypes
import numpy as np
import pytest

from realm_jax import faults, signals
from realm_jax.checksums import Damaged
from realm_jax.config import ConfigError
from realm_jax.index.claims import is_abandoned
from realm_jax.index.store import IndexStore
from tests.damage import flip_a_bit

FIELDS = {"segment_hashes": ["a1", "b2"], "search": "exact", "search_info": {}}


def publish(store, step, value=1.0):
    with store.begin(step) as draft:
        draft.embeddings(4, 3, "float32")[:] = value
        return draft.publish(FIELDS)


def dead_pid():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def write_claim(file, *, pid=None, host=None, age_s=0.0):
    file.parent.mkdir(parents=True, exist_ok=True)
    claim = {"host": host or socket.gethostname(), "pid": pid or os.getpid(), "time": time.time() - age_s}
    file.write_text(json.dumps(claim))


@pytest.fixture
def store(tmp_path):
    return IndexStore(tmp_path / "index")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_embeddings_come_back(store, dtype):
    values = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    with store.begin(7) as draft:
        matrix = draft.embeddings(5, 3, dtype)
        for row in (4, 0, 2, 1, 3):
            matrix[row] = values[row]
        draft.publish(FIELDS)
    version = store.latest()
    loaded = version.load_embeddings()
    expected = values.astype(ml_dtypes.bfloat16) if dtype == "bfloat16" else values
    np.testing.assert_array_equal(np.asarray(loaded, np.float32), expected.astype(np.float32))
    assert loaded.dtype == expected.dtype and not loaded.flags.writeable
    version.verify()
    assert version.step == 7 and version.manifest["num_blocks"] == 5 and version.manifest["dtype"] == dtype


def test_the_block_tower_is_kept_with_its_embeddings(store):
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((3, 5)).astype(ml_dtypes.bfloat16)
    tower = {"bert": {"layer_0": {"kernel": kernel.T}}, "norm": {"scale": rng.standard_normal(3).astype("f4")}}
    with store.begin(1) as draft:
        draft.embeddings(2, 3, "float32")[:] = 0
        draft.save_tower(tower)
        draft.publish(FIELDS)
    version = store.latest()
    assert version.has_tower and "tower.safetensors" in version.manifest["files"]
    kept = version.load_tower()
    assert kept.keys() == tower.keys() and kept["norm"]["scale"].dtype == np.float32
    np.testing.assert_array_equal(kept["norm"]["scale"], tower["norm"]["scale"])
    np.testing.assert_array_equal(kept["bert"]["layer_0"]["kernel"], kernel.T.astype(np.float32))
    file = version.folder / "tower.safetensors"
    content = file.read_bytes()
    file.write_bytes(b"\xff" * 8 + content[8:])
    with pytest.raises(ConfigError, match=r"tower.safetensors differs from its checksum: delete this index version"):
        version.load_tower()
    file.write_bytes(content[:-1])
    with pytest.raises(ConfigError, match=r"tower.safetensors has \d+ bytes instead of"):
        version.load_tower()
    with pytest.raises(ConfigError, match="lacks the block tower that made it"):
        publish(store, 2).load_tower()


def test_a_draft_is_no_version(store):
    assert store.latest() is None and store.versions() == [] and store.history() == []
    draft = store.begin(1)
    draft.embeddings(2, 2, "float32")
    assert store.latest() is None
    draft.discard()
    assert not list(store.folder.iterdir())


def test_versions_are_ordered_by_step_then_time(store):
    first, second = store.begin(200), store.begin(200)
    for draft in (second, first):  # two builders, one checkpoint
        draft.embeddings(1, 1, "float32")
        draft.publish(FIELDS)
    older = publish(store, 100)
    assert [version.name for version in store.versions()] == [older.name, second.folder.name, first.folder.name]
    assert store.latest().name == first.folder.name
    assert [event["event"] for event in store.history()] == ["published"] * 3


def test_an_error_leaves_nothing(store):
    with pytest.raises(RuntimeError), store.begin(3) as draft:
        draft.embeddings(2, 2, "float32")
        raise RuntimeError("killed")
    assert not list(store.folder.iterdir())


def test_full_disk_is_one_clear_line(store, monkeypatch):
    def no_space(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", no_space)
    with pytest.raises(ConfigError, match="no space left for index version .*step-00000003") as error:
        publish(store, 3)
    assert "\n" not in str(error.value)
    assert not list(store.folder.iterdir())


def test_damage_of_a_manifest_is_found(store):
    version = publish(store, 1)
    version.verify()
    manifest = json.loads((version.folder / "manifest.json").read_text())
    for changed in ({"tombstones": [3]}, {"step": 2}, {"files": {}}):
        (version.folder / "manifest.json").write_text(json.dumps(manifest | changed))
        with pytest.raises(Damaged, match=r"manifest.json differs from its checksum: delete"):
            store.latest().verify()


def test_damage_is_found(store):
    version = publish(store, 1)
    file = version.folder / "embeddings.npy"
    flip_a_bit(file)
    for read in (version.verify, version.load_embeddings):
        with pytest.raises(ConfigError, match=r"embeddings.npy differs from its checksum: delete"):
            read()
    os.truncate(file, 100)
    with pytest.raises(ConfigError, match=r"embeddings.npy has 100 bytes instead of"):
        version.load_embeddings()


@pytest.mark.parametrize("content", ['{"step": 1', "[]", '{"step": "1", "checksum": 5}', '{"stap": 1, "checksum": 5}'])
def test_a_version_whose_manifest_is_damaged_is_set_aside_as_any_other(store, content):
    before, version = publish(store, 1), publish(store, 2)
    (version.folder / "manifest.json").write_text(content)
    damaged = store.latest()
    assert (damaged.name, damaged.step, damaged.is_damaged) == (version.name, 2, True)
    for read in (damaged.verify, damaged.load_embeddings, damaged.load_tower, lambda: damaged.check_corpus(["a1"])):
        with pytest.raises(Damaged, match=r"manifest.json (is damaged|differs from its checksum)"):
            read()
    later = publish(store, 3)
    assert [found.name for found in store.versions()] == [before.name, version.name, later.name]
    assert [found.name for found in store.whole_versions()] == [before.name, later.name]
    store.set_aside(damaged)
    assert [found.name for found in store.versions()] == [before.name, later.name]
    store.prune(keep=1)
    assert [found.name for found in store.versions()] == [later.name] and version.folder.exists()


def test_appended_segments_keep_an_index_valid(store):
    version = publish(store, 1)
    version.check_corpus(["a1", "b2"])
    version.check_corpus(["a1", "b2", "c3"])
    with pytest.raises(ConfigError, match="segment 1 was b2 and is now x9"):
        version.check_corpus(["a1", "x9"])
    with pytest.raises(ConfigError, match="segment 1 was b2 and is now missing"):
        version.check_corpus(["a1"])


def test_prune_keeps_the_newest_and_the_pinned(store):
    names = [publish(store, step).name for step in range(5)]
    by_name = {version.name: version for version in store.versions()}
    assert store.pin(by_name[names[1]])
    mapped = by_name[names[0]].load_embeddings()
    assert store.prune(2) == [names[0], names[2]]
    assert [version.name for version in store.versions()] == [names[1], names[3], names[4]]
    assert (mapped == 1).all()  # a map outlives its file
    assert not store.pin(by_name[names[0]])
    store.unpin(by_name[names[1]])
    assert store.prune(2) == [names[1]]
    assert [e["version"] for e in store.history() if e["event"] == "pruned"] == [names[0], names[2], names[1]]


def test_what_a_killed_prune_had_hidden_is_removed_by_the_next(store, monkeypatch):
    names = [publish(store, step).name for step in range(4)]

    def end(point):
        raise signals.Ended(signal.SIGTERM)

    with monkeypatch.context() as killed, pytest.raises(signals.Ended):
        killed.setattr(faults, "point", end)
        store.prune(2)
    assert [version.name for version in store.versions()] == names[2:] and len(list(store.folder.glob("step-*"))) == 4
    assert store.prune(2) == names[:2] and len(list(store.folder.glob("step-*"))) == 2
    assert [e["version"] for e in store.history() if e["event"] == "pruned"] == names[:2]


def test_whoever_pins_a_version_removes_the_pins_of_the_dead(store):
    version = publish(store, 0)
    write_claim(version.folder / "pins" / "dead.json", pid=dead_pid())
    write_claim(version.folder / "pins" / "foreign.json", host="elsewhere", age_s=3600)
    assert store.pin(version)
    assert len(list((version.folder / "pins").iterdir())) == 2 and not (version.folder / "pins" / "dead.json").exists()


def test_pins_of_the_dead_and_the_old_do_not_count(store):
    for step in range(4):
        publish(store, step)
    dead, old, foreign, _ = store.versions()
    write_claim(dead.folder / "pins" / "x.json", pid=dead_pid())
    write_claim(old.folder / "pins" / "x.json", age_s=2 * 86400)
    write_claim(foreign.folder / "pins" / "x.json", host="elsewhere", age_s=3600)
    assert store.prune(1) == [dead.name, old.name]


def test_pin_set_while_pruning_wins(store, monkeypatch):
    version = publish(store, 0)
    publish(store, 1)
    answers = iter([False, True])
    monkeypatch.setattr("realm_jax.index.store.is_pinned", lambda folder: next(answers))
    assert store.prune(1) == []
    assert len(store.versions()) == 2 and version.load_embeddings().shape == (4, 3)


def test_prune_removes_drafts_of_the_dead(store):
    publish(store, 0)
    live, dead, silent, headless = (store.begin(step) for step in range(1, 5))
    write_claim(dead.folder / "owner.json", pid=dead_pid())
    write_claim(silent.folder / "owner.json", host="elsewhere", age_s=700)
    (headless.folder / "owner.json").unlink()
    store.prune(3)
    assert {f.name for f in store.folder.glob("step-*")} >= {live.folder.name, headless.folder.name}
    os.utime(headless.folder, (time.time() - 700,) * 2)
    store.prune(3)
    assert {f.name for f in store.folder.glob("step-*")} == {live.folder.name, store.latest().name}


def test_a_draft_renews_its_claim_whatever_its_builder_does(store, monkeypatch):
    monkeypatch.setattr("realm_jax.index.claims.RENEW_EVERY_S", 0.1)
    with store.begin(1) as draft:
        write_claim(draft.folder / "owner.json", host="elsewhere", age_s=700)
        deadline = time.monotonic() + 10
        while is_abandoned(draft.folder):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    time.sleep(0.3)
    assert not draft.folder.exists(), "what is given up stays away"


def test_a_killed_builder_leaves_no_version(store):
    script = (
        "import os, sys; from realm_jax.index.store import IndexStore\n"
        "draft = IndexStore(sys.argv[1]).begin(5); draft.embeddings(10, 2, 'float32')[:] = 1\n"
        "os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", script, str(store.folder)], check=False).returncode == -9
    assert len(list(store.folder.iterdir())) == 1 and store.latest() is None
    store.prune(1)
    assert not list(store.folder.iterdir())


def test_a_torn_line_costs_itself_alone(store):
    """As a full disk leaves one."""
    publish(store, 1)
    with (store.folder / "history.jsonl").open("a") as file:
        file.write('{"event": "adop')
    assert [event["event"] for event in store.history()] == ["published"]
    store.record("adopted", trainer_step=3)
    assert [event["event"] for event in store.history()] == ["published", "adopted"]


def test_history_only_grows(store):
    version = publish(store, 3)
    store.record("adopted", version=version.name, trainer_step=17)
    with (store.folder / "history.jsonl").open("a") as file:
        file.write('{"event": "publ')  # a line that is being written
    assert [event["event"] for event in store.history()] == ["published", "adopted"]
    assert store.history()[1]["trainer_step"] == 17


def test_object_store_has_local_copies(store, monkeypatch):
    for module in ("history", "store", "version"):
        monkeypatch.setattr(f"realm_jax.index.{module}.is_remote", lambda path: True)
    with store.begin(2) as draft:
        assert draft.folder.parent != store.folder
        draft.embeddings(4, 3, "float32")[:] = 2
        (draft.folder / "scann").mkdir()
        (draft.folder / "scann" / "part.npy").write_bytes(b"123")
        draft.publish(FIELDS)
    assert not draft.folder.exists()
    version = store.latest()
    assert (version.load_embeddings() == 2).all()
    assert (version.local_folder() / "scann" / "part.npy").read_bytes() == b"123"
    assert version.local_folder() != version.folder
    store.record("adopted", version=version.name, trainer_step=2)
    assert len(store.history()) == 2
