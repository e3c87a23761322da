"""Corpus and index are compacted together: what is found stays, and a kill leaves the old or the new."""

import os

import numpy as np
import pytest
from etils import epath

from realm_jax import redo
from realm_jax.checkpoints import Checkpoints
from realm_jax.commands import compact
from realm_jax.config import ConfigError
from realm_jax.data import corpus_writer, salient
from realm_jax.data.corpus import Corpus
from realm_jax.data.prepare import open_prepared
from realm_jax.heartbeat import Heartbeat
from realm_jax.index import knowledge_compaction
from realm_jax.index.knowledge_update import update_knowledge
from realm_jax.index.publish import publish as publish_draft
from realm_jax.index.store import IndexStore
from realm_jax.lock import only_one
from realm_jax.records import Record

NEWS = [
    Record(f"news/{i}", f"Bridge {i}", f"The bridge of Port {i} was opened in 20{30 + i}. " * 9, "") for i in range(2)
]


@pytest.fixture(scope="module")
def runs(tiny_run, copy_run, tmp_path_factory):
    """A run with three segments and an index, without and with deleted blocks; tests only read them."""
    root = tmp_path_factory.mktemp("runs")
    workdir = copy_run(tiny_run, root / "all")
    data, tools = open_prepared(workdir), {"tag": salient.make_tagger("rules")}
    for record in NEWS:
        corpus_writer.append([record], workdir.knowledge_folder, tokenizer=data.tokenizer, **tools)
    some = copy_run(workdir, root / "some")
    dead = [data.knowledge.block(i).source_id for i in (0, data.knowledge.num_blocks - 1)] + [NEWS[0].id]
    blocks = Corpus.open(some.knowledge_folder).blocks_of(dead)
    corpus_writer.delete([i for of_record in blocks.values() for i in of_record], some.knowledge_folder)
    for run in (workdir, some):
        publish(run)
    return {False: workdir, True: some}


def publish(workdir):
    """A version of embeddings at random."""
    knowledge, store = Corpus.open(workdir.knowledge_folder), IndexStore(workdir.index_folder)
    with store.begin(7) as draft:
        embeddings = draft.embeddings(knowledge.num_blocks, 16, "float32")
        embeddings[:] = np.random.default_rng(0).standard_normal(embeddings.shape)
        common = {"tower": {"kernel": np.zeros(2)}, "embedded_by": {"phase": "init", "step": 0}}
        publish_draft(draft, store, embeddings, knowledge, workdir.config.index, **common)


@pytest.fixture
def changed(runs, copy_run, tmp_path):
    """Makes copies: `changed(delete=False)`."""
    return lambda delete=True: copy_run(runs[delete], tmp_path / "run")


def found(workdir):
    """Texts of the best blocks of a few queries, and all that lives."""
    knowledge, version = open_prepared(workdir).knowledge, IndexStore(workdir.index_folder).latest()
    assert version.is_current(knowledge)
    version.verify()
    assert version.load_tower()["kernel"].shape == (2,)
    scores = np.random.default_rng(1).standard_normal((8, 16)) @ version.load_embeddings().T
    best = np.argsort(np.where(version.live_blocks(knowledge), -scores, np.inf), axis=1)[:, :5]
    live = [knowledge.block(i) for i in np.flatnonzero(knowledge.live)]
    return [knowledge.block(i).text for i in best.ravel()], [(b.source_id, b.title, b.text) for b in live]


@pytest.mark.parametrize("delete", [True, False])
def test_what_is_found_stays(changed, delete, capsys):
    workdir = changed(delete)
    before, ordinals = found(workdir), Corpus.open(workdir.knowledge_folder).num_blocks
    compact.main([f"--workdir={workdir.path}"])
    after = Corpus.open(workdir.knowledge_folder)
    assert found(workdir) == before
    assert len(after.segments) == 1 and not len(after.tombstones)
    assert (after.num_blocks < ordinals) == delete
    assert "corpus: 3 segments are now 1" in capsys.readouterr().out
    assert len(IndexStore(workdir.index_folder).versions()) == 1
    assert sorted(p.name for p in workdir.knowledge_folder.iterdir()) == ["manifest.json", "segment-00003"]
    assert sorted(p.name for p in workdir.path.iterdir() if "redo" in p.name) == []
    knowledge_compaction.compact_knowledge(workdir, 1 << 26)  # nothing to do
    assert Corpus.open(workdir.knowledge_folder).hash == after.hash
    update_knowledge(workdir, delete=(NEWS[1].id,))  # life goes on
    assert NEWS[1].title not in str(found(workdir)[1])


def test_who_opened_the_corpus_before_is_told(changed):
    """Not handed rows of the compacted index as blocks of the corpus as it was."""
    workdir = changed(True)
    opened = open_prepared(workdir).knowledge
    compact.main([f"--workdir={workdir.path}"])
    with pytest.raises(ConfigError, match="was compacted since this command opened it: run it again"):
        IndexStore(workdir.index_folder).latest().live_blocks(opened)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("moment", range(6))
def test_a_kill_leaves_the_old_or_the_new(changed, monkeypatch, moment):
    workdir = changed()
    before = found(workdir)
    calls = iter(range(100))

    def killed_at(function):
        def call(*args, **kwargs):
            if next(calls) == moment:
                raise Killed
            return function(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(knowledge_compaction, "write_json", killed_at(knowledge_compaction.write_json))
        patch.setattr(redo, "write_json", killed_at(redo.write_json))
        patch.setattr(redo.os, "replace", killed_at(os.replace))
        patch.setattr(redo.shutil, "rmtree", killed_at(redo.shutil.rmtree))
        try:
            knowledge_compaction.compact_knowledge(workdir, 1 << 26)
        except Killed:
            pass
    is_committed = (workdir.path / redo.JOURNAL).exists()
    assert found(workdir) == before
    assert len(Corpus.open(workdir.knowledge_folder).segments) == (1 if is_committed else 3)
    assert not (workdir.path / redo.JOURNAL).exists()
    knowledge_compaction.compact_knowledge(workdir, 1 << 26)
    assert found(workdir) == before and len(Corpus.open(workdir.knowledge_folder).segments) == 1


@pytest.mark.parametrize("step", ["read_json", "replace"])
def test_two_processes_may_finish_a_change_at_once(step, tmp_path, monkeypatch):
    tmp_path = epath.Path(tmp_path)
    redo.write_json(tmp_path / redo.JOURNAL, {"replace": [("a.next", "a")], "remove": []})
    (tmp_path / "a.next").write_text("new")
    place = redo if step == "read_json" else redo.os
    function = getattr(place, step)

    def after_the_other(*arguments):
        with monkeypatch.context() as patch:
            patch.setattr(place, step, function)
            redo.finish(tmp_path)
        return function(*arguments)

    monkeypatch.setattr(place, step, after_the_other)
    redo.finish(tmp_path)
    assert (tmp_path / "a").read_text() == "new" and [file.name for file in tmp_path.iterdir()] == ["a"]


def test_nothing_else_may_be_at_work(changed):
    workdir = changed()
    store = IndexStore(workdir.index_folder)
    refused = [
        (only_one(workdir.trainer_lock, "x"), "is being worked on by another process"),
        (only_one(workdir.update_lock, "x"), "is being worked on by another process"),
        (Heartbeat(workdir.index_folder, role="index builder"), "is in use by process"),
    ]
    for at_work, message in refused:
        with at_work, pytest.raises(ConfigError, match=message):
            knowledge_compaction.compact_knowledge(workdir, 1 << 26)
    version = store.pin_latest()
    with pytest.raises(ConfigError, match=f"is in use by process {os.getpid()}"):
        knowledge_compaction.compact_knowledge(workdir, 1 << 26)
    store.unpin(version)
    with Checkpoints(workdir.phase("ict")) as checkpoints:
        checkpoints.save(1, {"embedder": {"kernel": np.zeros(2, np.float32)}})
    with pytest.raises(ConfigError, match="ict is not finished"):
        knowledge_compaction.compact_knowledge(workdir, 1 << 26)
    workdir.mark_done("ict", 1)
    knowledge_compaction.compact_knowledge(workdir, 1 << 26)


def test_a_segment_size_below_one_is_refused(changed):
    with pytest.raises(ConfigError, match="--segment_mb=0: pass at least 1"):
        compact.main(["--segment_mb=0"])
