"""A run that is followed and added to: versions that change under a question, two users at once, what is refused."""

import fcntl
import json
import threading

import jax
import numpy as np
import pytest

from realm_jax.checkpoints import Checkpoints
from realm_jax.config import ConfigError
from realm_jax.data.corpus import Corpus
from realm_jax.data.prepare import open_prepared
from realm_jax.index.claims import is_pinned
from realm_jax.index.index_builder import IndexBuilder
from realm_jax.index.store import IndexStore
from realm_jax.inference.results import Refused
from realm_jax.serve import live
from realm_jax.training import phases
from tests.tuned import finetune_by_hand

SENTENCE = "The river [MASK] flows into the sea."
BRIDGE = "Quorvath Bridge", "The Quorvath Bridge was opened in 2031 by Queen Maud."


@pytest.fixture
def workdir(pretrained_run, tmp_path, copy_run):
    return copy_run(pretrained_run, tmp_path / "run")


@pytest.fixture
def tuned(tuned_run, tmp_path, copy_run):
    return copy_run(tuned_run, tmp_path / "run")


def publish(workdir, step, seed=0):
    """A version as the builder publishes it, of other weights."""
    rng, first = np.random.default_rng(seed), phases.first_params(workdir)["embedder"]
    params = jax.tree.map(lambda x: (x + rng.normal(0, 0.1, x.shape)).astype(np.float32), first)
    data, store = open_prepared(workdir), IndexStore(workdir.index_folder)
    source = {"phase": "pretrain", "step": step}
    return IndexBuilder(workdir.config, data, store).build(step, params, embedded_by=source)


def test_before_fine_tuning_no_question_is_answered_but_the_command_is_named(workdir, open_run):
    run = open_run(workdir)
    command = f"realm finetune --workdir={workdir.path} --dataset=cloze"
    assert run.how_to_ask == command
    with pytest.raises(Refused, match="not fine-tuned"):
        run.ask("Who?")
    found = run.fill(SENTENCE)
    assert (
        found.blanks and found.source.age_steps == 1 - workdir.config.pretrain.steps
    )  # as the fixture names its steps
    finetuning = finetune_by_hand(workdir, "later")
    run.refresh()  # as every few seconds
    answered = run.ask("Who?")
    assert run.how_to_ask == "" and answered.answers and answered.source.params == "finetune/later, step 1"
    assert finetuning.folder.exists()


def test_a_begun_fine_tuning_without_evaluation_answers_nothing(workdir, open_run):
    finetuning = finetune_by_hand(workdir)
    (finetuning.folder / "evaluations.json").unlink()
    with pytest.raises(Refused, match="not fine-tuned"):
        open_run(workdir).ask("Who?")


def test_the_wanted_fine_tuning_answers(tuned, open_run):
    finetune_by_hand(tuned, "newer", seed=6)
    assert open_run(tuned).ask("Who?").source.params.startswith("finetune/newer")
    assert open_run(tuned, "cloze").ask("Who?").source.params.startswith("finetune/cloze")
    with pytest.raises(ConfigError, match="no evaluated fine-tuning other .it has: cloze, newer"):
        open_run(tuned, "other")


def test_newer_versions_and_parameters_are_adopted_and_pinned(workdir, open_run):
    run = open_run(workdir)
    old = run.state
    version = publish(workdir, 9)
    run.refresh()
    assert run.fill(SENTENCE).source.version == version.name and is_pinned(version.folder)
    assert not any(is_pinned(v.folder) for _, v in old.pinned)
    assert old.filler.fill(SENTENCE).blanks  # who asked before the switch still gets an answer
    params = phases.last_params(workdir, "pretrain")
    with Checkpoints(workdir.phase("pretrain")) as checkpoints:
        checkpoints.save(12, params)
    run.refresh()
    source = run.fill(SENTENCE).source
    assert source.params == "pretrain, step 12" and source.age_steps == 3
    run.refresh()
    assert run.fill(SENTENCE).source == source


def test_a_damaged_version_leaves_the_state_before(workdir, open_run, monkeypatch):
    monkeypatch.setattr(live, "POLL_S", 0.05)
    run = live.LiveRun(workdir)
    try:
        before = run.fill(SENTENCE).source
        with run._loading:  # or it may read the version before it is damaged, and its pages are gone: a bus error
            (publish(workdir, 9).folder / "embeddings.npy").write_bytes(b"")
        waiting = threading.Event()
        for _ in range(600):
            if run.problem or waiting.wait(0.05):
                break
        assert "embeddings.npy" in run.problem and run.fill(SENTENCE).source == before
    finally:
        run.close()


def test_the_index_is_swapped_while_two_users_ask_and_a_third_adds(tuned, open_run):
    run = open_run(tuned)
    done, errors, seen = threading.Event(), [], set()

    def ask():
        try:
            while not done.is_set():
                filled = run.fill(SENTENCE)
                assert sum(block.probability for block in filled.blocks) == pytest.approx(1, abs=1e-4)
                answered = run.ask("Who opened the bridge?")
                assert all(0 <= answer.probability <= 1 for answer in answered.answers)
                seen.update((filled.source.version, answered.source.version))
        except Exception as error:
            errors.append(error)

    users = [threading.Thread(target=ask) for _ in range(2)]
    for user in users:
        user.start()
    run.add_document(*BRIDGE)
    version = publish(tuned, 9)
    run.refresh()
    assert run.fill(SENTENCE).source.version == version.name
    done.set()
    for user in users:
        user.join()
    events = [event for folder in tuned.index_folders for event in IndexStore(folder).history()]
    assert not errors and len(seen) > 1 and seen <= {e["version"] for e in events if e["event"] == "published"}


def test_two_users_add_at_once(workdir, open_run):
    run, results = open_run(workdir), []

    def add(number):
        try:
            results.append(run.add_document("Zorn", f"The river Zorn has {number} bridges."))
        except Refused as error:
            results.append(str(error))

    users = [threading.Thread(target=add, args=(number % 2,)) for number in range(4)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    refused = [result for result in results if isinstance(result, str)]
    assert refused == [live.KNOWN] * 2 and len(results) == 4
    corpus, newest = Corpus.open(workdir.knowledge_folder), IndexStore(workdir.index_folder).latest()
    assert len(corpus.record_ids()) == len(set(corpus.record_ids())) and newest.is_current(corpus)
    newest.verify()
    assert run.fill(SENTENCE).source.blocks == corpus.num_blocks


def test_an_added_document_is_found_escaped_texts_too(tuned, open_run):
    run = open_run(tuned)
    text = '<script>alert("1")</script> The [SEP] Quorvath Bridge was opened in 2031. \ud800'
    added = run.add_document("<b>Quorvath</b>", text)
    assert added.blocks >= 1 and added.added[0].startswith("demo/")
    source = run.fill(SENTENCE).source
    assert source.version == added.version == run.ask("Who?").source.version
    corpus = Corpus.open(tuned.knowledge_folder)
    block = corpus.block(corpus.blocks_of(added.added)[added.added[0]][0])
    assert block.title == "<b>Quorvath</b>" and block.text.startswith("<script>")
    with pytest.raises(Refused, match="already"):
        run.add_document("<b>Quorvath</b>", text)
    run.add_document(*BRIDGE)
    with pytest.raises(Refused, match="already"):  # not the last change, and still known
        run.add_document("<b>Quorvath</b>", text)


@pytest.mark.parametrize(
    ("text", "said"), [("", "Write the text"), (" \n", "Write the text"), ("x " * 60_000, "--add=FILE")]
)
def test_what_cannot_be_added_changes_nothing(workdir, open_run, text, said):
    run, before = open_run(workdir), Corpus.open(workdir.knowledge_folder).hash
    with pytest.raises(Refused, match=said):
        run.add_document("title", text)
    assert Corpus.open(workdir.knowledge_folder).hash == before


def test_another_process_that_updates_is_waited_for_by_the_user(workdir, open_run):
    run = open_run(workdir)
    with open(workdir.path / "update.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(Refused, match="being updated by another process"):
            run.add_document(*BRIDGE)
    assert run.add_document(*BRIDGE).blocks == 1


def test_a_run_without_an_index_is_an_error_that_names_the_command(workdir, open_run):
    for folder in workdir.index_folder.glob("step-*"):
        folder.rmtree()
    with pytest.raises(ConfigError, match=r"realm run --workdir="):
        open_run(workdir)


def test_half_a_surrogate_pair_is_survived(tuned, open_run):
    run = open_run(tuned)
    text = json.loads('"\\ud83d [MASK]"')
    assert run.fill(text).blanks and run.ask(text).answers
