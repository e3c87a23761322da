"""Fine-tuning: its loss in slow NumPy, what each setting trains, the same bits after a kill, and what is kept."""

import dataclasses
import functools
import hashlib
import json
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from etils import epath

from realm_jax import parallel
from realm_jax.checkpoints import Checkpoints
from realm_jax.config import ConfigError, FinetuneConfig
from realm_jax.data.prepare import open_prepared
from realm_jax.data.questions import datasets
from realm_jax.index.store import IndexStore
from realm_jax.models import embedder, reader
from realm_jax.records import Question
from realm_jax.training import phases
from realm_jax.training.best_params import EVALUATIONS, BestParams, best_folder
from realm_jax.training.finetune import train
from realm_jax.training.finetune_task import METRIC, FinetuneTask, finetune_loss
from realm_jax.training.finetuning import Finetuning, finetunings
from realm_jax.training.metrics import MetricsWriter
from realm_jax.training.retrieval import RetrievalStream
from tests.batch_shapes import misshapen
from tests.damage import flip_a_bit

SETTINGS = FinetuneConfig(
    epochs=1,
    batch_size=8,
    learning_rate=1e-3,
    beam_blocks=12,
    reader_blocks=3,
    inference_blocks=2,
    question_len_tokens=24,
    max_span_width=4,
    eval_every=2,
    index_refresh_every=3,
    log_every=1,
)
STEPS = 4
RELATIVE_ERROR = 1e-5
ZERO = 2e-6
"""A gradient of a smaller norm may be rounding alone."""


def noisy(params, seed, size=0.1):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: (x + rng.normal(0, size, x.shape)).astype(np.float32), params)


@pytest.fixture(scope="module")
def run(pretrained_run, copy_run, tmp_path_factory):
    """A run whose phases are done, to be fine-tuned."""
    return copy_run(pretrained_run, tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def questions(run):
    """32 to train on, one of which nothing answers, and 8 for development."""
    found = {
        split: datasets.load("cloze", split, run=open_prepared(run), config=run.config) for split in ("train", "dev")
    }
    few = found["train"][: STEPS * 8]
    few[5] = dataclasses.replace(few[5], answers=("stands nowhere",))
    few[6] = dataclasses.replace(few[6], answers=(r"\bthe [a-z]+\b",), is_regex=True)
    return few, found["dev"][:8]


@pytest.fixture(scope="module")
def begin(run):
    """Makes fine-tunings: `begin("name", train_retriever="both")`."""

    def make(name, **changes) -> Finetuning:
        return Finetuning.create(run, name, "cloze", dataclasses.replace(SETTINGS, **changes))

    return make


def task_of(finetuning, questions, exact_match=lambda params: 0.0, noise=0.0) -> FinetuneTask:
    data, first = open_prepared(finetuning.workdir), finetuning.first_params()
    store = finetuning.index_store(data, first)
    first = noisy(first, 7, noise)
    return FinetuneTask(finetuning.config, data, questions, store, first, exact_match, finetuning.folder)


def first_batch(task):
    """A batch as the devices get it, but for its packing."""
    stream = task.stream({})
    stream._room.pack = lambda batch: batch
    try:
        return jax.tree.map(np.array, stream.take(parallel.replicate(task.init())))
    finally:
        stream.close()


def joined(batch):
    """Undoes `parallel.shard`."""
    return jax.tree.map(lambda x: jnp.asarray(x.reshape(-1, *x.shape[2:])), batch)


@functools.partial(jax.jit, static_argnums=0)
def loss_of(config, params, batch):
    return finetune_loss(config, params, batch, None)


@functools.partial(jax.jit, static_argnums=(0, 1))
def embed(model, side, params, tokens):
    return embedder.embed(model, params["embedder"], side, tokens)


@functools.partial(jax.jit, static_argnums=0)
def read(config, params, batch):
    width = config.finetune.max_span_width
    return reader.span_scores(config.model, params["reader"], batch.joint, batch.body_mask, width)


@pytest.fixture(scope="module")
def batches(begin, questions):
    """(config, parameters far from their first values, a batch of 16 over eight devices) for each setting."""
    often = [
        ("river", "lake", "the"),
        ("of the", "north"),
        ("It is", "in"),
        ("city", "town"),
        ("stands nowhere",),
        ("was", "18"),
    ]
    few = [
        dataclasses.replace(q, answers=often[i % len(often)], is_regex=False) for i, q in enumerate(questions[0][:16])
    ]
    made = {}
    for trained in ("query", "both"):
        finetuning = begin(f"batch-{trained}", train_retriever=trained, batch_size=16)
        task = task_of(finetuning, few, noise=0.3)
        made[trained] = finetuning.config, task.init(), first_batch(task), task
    config, *rest = made["query"]
    frozen = dataclasses.replace(config.finetune, train_retriever="none")
    return {**made, "none": (dataclasses.replace(config, finetune=frozen), *rest)}


@pytest.mark.parametrize("trained", ["query", "both"])
def test_a_batch_has_what_the_index_and_the_texts_say(batches, trained):
    config, params, shares, task = batches[trained]
    batch, data = joined(shares), task._data
    assert misshapen(batch) == []
    embeddings = IndexStore(task._store.folder).latest().load_embeddings().astype(np.float64)
    by_tokens = {tuple(task._tokens.ids[i].tolist()): q for i, q in enumerate(task.questions)}
    query_emb = np.asarray(embed(config.model, "query", params, batch.query), np.float64)
    assert len({tuple(ids) for ids in batch.query.ids.tolist()}) == 16  # an epoch has each question once
    starts, ends = reader.spans(config.reader_len_tokens, SETTINGS.max_span_width)
    right_blocks = right_spans = 0
    for i in range(16):
        question = by_tokens[tuple(batch.query.ids[i].tolist())]
        beam = np.argsort(-(embeddings @ query_emb[i]), kind="stable")[: SETTINGS.beam_blocks]
        np.testing.assert_allclose(batch.beam_emb[i], embeddings[beam], rtol=1e-6)
        assert batch.beam_mask[i].all()
        texts = [data.knowledge.block(block).text for block in beam]
        assert batch.beam_correct[i].tolist() == [any(a in text for a in question.answers) for text in texts]
        right_blocks += batch.beam_correct[i].sum()
        length = int(batch.query.mask[i].sum())
        wanted = [data.tokenizer.encode(a, add_special_tokens=False).ids for a in question.answers]
        wanted = [w for w in wanted if len(w) <= SETTINGS.max_span_width]
        for k, block in enumerate(beam[: SETTINGS.reader_blocks]):
            body = data.knowledge.body(block).tolist()
            ids = [*batch.query.ids[i, :length], *body, 3]
            assert batch.joint.ids[i, k, : len(ids)].tolist() == ids and batch.joint.mask[i, k].sum() == len(ids)
            for place in np.flatnonzero(batch.correct_spans[i, k]):
                assert body[starts[place] - length : ends[place] - length + 1] in wanted
            expected = sum(body[at : at + len(w)] == w for w in wanted for at in range(len(body)))
            assert batch.correct_spans[i, k].sum() == expected
            right_spans += expected
        if trained == "both":
            tokens = data.knowledge.embedder_tokens(beam[: SETTINGS.reader_blocks], config.corpus.block_len_tokens)
            np.testing.assert_array_equal(batch.blocks.ids[i], tokens.ids)
    assert right_blocks > 20 and right_spans > 10
    assert (batch.blocks is None) == (trained == "query")


def logsumexp(values) -> float:
    top = max(values)
    return top + math.log(sum(math.exp(value - top) for value in values))


def slow_loss(config, params, batch) -> tuple[list[float], list[float]]:
    """(retriever losses, reader losses) of the questions, from embeddings and span scores, in plain Python."""
    model, settings = config.model, config.finetune
    num_read = batch.joint.ids.shape[1]
    query = np.asarray(embed(model, "query", params, batch.query), np.float64)
    blocks = np.array(batch.beam_emb, np.float64)
    if settings.train_retriever == "both":
        blocks[:, :num_read] = embed(model, "block", params, batch.blocks)
    spans = np.asarray(read(config, params, batch), np.float64)
    batch = jax.tree.map(np.asarray, batch)
    starts, ends = reader.spans(batch.joint.ids.shape[-1], settings.max_span_width)
    retriever, readers = [], []
    for i in range(len(query)):
        found = [k for k in range(blocks.shape[1]) if batch.beam_mask[i, k]]
        scores = {k: float(query[i] @ blocks[i, k]) for k in found}
        right = [scores[k] for k in found if batch.beam_correct[i, k]]
        retriever.append(logsumexp(list(scores.values())) - logsumexp(right) if right else 0.0)
        everything, right = [], []
        for k in (k for k in found if k < num_read):
            for s in range(len(starts)):
                if batch.body_mask[i, k, starts[s]] and batch.body_mask[i, k, ends[s]]:
                    everything.append(scores[k] + spans[i, k, s])
                    right += [everything[-1]] if batch.correct_spans[i, k, s] else []
        readers.append(logsumexp(everything) - logsumexp(right) if right else 0.0)
    return retriever, readers


def with_missing_blocks(batch):
    """The last blocks of some questions were not found; whatever stands in their place counts for nothing."""
    mask = np.array(batch.beam_mask)
    mask[1, 7:] = mask[4, 1:] = False
    read = mask[:, : batch.body_mask.shape[1], None]
    return dataclasses.replace(
        batch,
        beam_mask=jnp.asarray(mask),
        beam_correct=batch.beam_correct & mask,
        body_mask=batch.body_mask & read,
        correct_spans=batch.correct_spans & read,
    )


@pytest.mark.parametrize("trained", ["none", "query", "both"])
def test_loss_against_plain_python(batches, trained):
    config, params, shares, _ = batches[trained]
    batch = with_missing_blocks(joined(shares))
    total, count, metrics = loss_of(config, params, batch)
    retriever, readers = slow_loss(config, params, batch)
    assert count == 16 and min(sum(loss > 0 for loss in losses) for losses in (retriever, readers)) > 4
    assert total == pytest.approx(sum(retriever) + sum(readers), rel=1e-4)
    assert metrics["retriever_loss"][0] == pytest.approx(sum(retriever), rel=1e-4)
    assert metrics["reader_loss"][0] == pytest.approx(sum(readers), rel=1e-4)
    rights = np.any(batch.beam_correct, 1).sum(), np.any(batch.correct_spans, (1, 2)).sum()
    assert (metrics["retriever_loss"][1], metrics["reader_loss"][1]) == rights
    assert (metrics["answer_in_beam"][0], metrics["answer_in_read"][0]) == rights
    assert metrics["answer_in_beam"][1] == metrics["answer_in_read"][1] == 16
    assert 0 < rights[1] <= rights[0] < 16


def test_a_question_without_anything_right_gives_neither_loss_nor_gradient(batches):
    config, params, shares, _ = batches["both"]
    batch = joined(shares)
    batch = dataclasses.replace(
        batch, beam_correct=batch.beam_correct & False, correct_spans=batch.correct_spans & False
    )
    loss, gradient = jax.jit(jax.value_and_grad(lambda p, b: finetune_loss(config, p, b, None)[0]))(params, batch)
    assert loss == 0
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradient))


def test_fresh_embeddings_take_the_place_of_the_indexs_for_the_blocks_that_are_read(batches):
    config, params, shares, _ = batches["both"]
    batch = joined(shares)
    read = SETTINGS.reader_blocks

    def loss_with(beam_emb):
        return loss_of(config, params, dataclasses.replace(batch, beam_emb=beam_emb))[0]

    before = loss_with(batch.beam_emb)
    assert loss_with(batch.beam_emb.at[:, :read].add(1)) == before
    assert abs(loss_with(batch.beam_emb.at[:, read:].multiply(0.5)) - before) > 1e-3


@pytest.mark.parametrize("trained", ["query", "both"])
def test_gradients_of_eight_devices_are_those_of_one(batches, trained):
    config, params, shares, _ = batches[trained]
    loss = functools.partial(finetune_loss, config)
    assert parallel.num_devices() == 8

    def mean(params, batch):
        total, count, metrics = finetune_loss(config, params, batch, None)
        return total / count, {"loss": (total, count), **metrics}

    step = parallel.on_local_devices(lambda p, b: parallel.gradients(loss, p, b, jax.random.key(0)))
    ours, metrics = jax.device_get(parallel.unreplicate(step(parallel.replicate(params), shares)))
    expected, expected_metrics = jax.device_get(jax.jit(jax.grad(mean, has_aux=True))(params, joined(shares)))
    powerful: dict[str, list[bool]] = {}
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(ours), jax.tree.leaves(expected), strict=True):
        norm = np.linalg.norm(b)
        assert np.linalg.norm(a - b) < max(ZERO, RELATIVE_ERROR * norm), jax.tree_util.keystr(path)
        part = path[0].key if path[0].key == "reader" else path[1].key
        powerful.setdefault(part, []).append(norm > ZERO)
    trains = {"query": ["reader", "query"], "both": ["reader", "query", "block"]}[trained]
    for part, has_gradient in powerful.items():
        assert np.mean(has_gradient) > 0.8 if part in trains else not any(has_gradient), part
    for name, (total, count) in expected_metrics.items():
        if name == "tokens":  # only their sum counts
            assert metrics[name][0] == total
        else:
            np.testing.assert_allclose(np.divide(*metrics[name]), total / count, rtol=1e-4, err_msg=name)


def last_params(finetuning) -> dict:
    with Checkpoints(finetuning.workdir.phase(finetuning.phase), read_only=True) as checkpoints:
        restored = checkpoints.restore_params(checkpoints.latest_step(), shapes(finetuning.config))
    return jax.device_get(restored)


@functools.cache
def shapes(config) -> dict:
    return jax.eval_shape(functools.partial(two_towers, config.model), jax.random.key(0))


def two_towers(model, key) -> dict:
    towers = embedder.init(model, key)
    sides = {side: embedder.tower(towers, side) for side in ("query", "block")}
    return {"embedder": sides, "reader": reader.init(model, key)}


def bytes_of(folder) -> dict[str, str]:
    """Pins left out: a reader renews its own while it lives."""
    files = (f for f in pathlib.Path(folder).glob("step-*/**/*") if f.is_file() and "pins" not in f.parts)
    return {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def moved(before, after) -> float:
    """Share of the leaves that changed."""
    return np.mean([np.any(a != b) for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True)])


@pytest.fixture(scope="module")
def index_bytes(run):
    return bytes_of(run.index_folder)


@pytest.fixture(scope="module")
def trained(begin, questions, index_bytes):
    """Fine-tunings that went to their end, by what they train."""
    assert index_bytes
    made = {}
    for sides in ("query", "both"):
        made[sides] = begin(sides, train_retriever=sides)
        train(made[sides], *questions)
    made["none"] = begin("none", train_retriever="none", patience=1, eval_every=1)
    nobody = [dataclasses.replace(q, answers=("nobody says this",)) for q in questions[1][:2]]
    train(made["none"], questions[0], nobody)
    return made


@pytest.mark.parametrize("sides", ["none", "query", "both"])
def test_what_is_trained(trained, sides):
    first, last = trained[sides].first_params(), last_params(trained[sides])
    assert moved(first["reader"], last["reader"]) > 0.9
    for side in ("query", "block"):
        share = moved(first["embedder"][side], last["embedder"][side])
        assert (
            share > 0.9 if side in {"none": (), "query": ("query",), "both": ("query", "block")}[sides] else share == 0
        )


def test_the_runs_index_stays_as_it_was(trained, run, index_bytes):
    assert bytes_of(run.index_folder) == index_bytes
    assert not (trained["query"].folder / "index").exists() and not (trained["none"].folder / "index").exists()


def test_both_publishes_versions_of_its_own(trained):
    finetuning = trained["both"]
    versions = IndexStore(finetuning.folder / "index").versions()
    assert [v.step for v in versions] == [0, 3]
    sources = [v.manifest["embedded_by"] for v in versions]
    assert sources == [finetuning.source, {"phase": "finetune/both", "step": 3}]
    assert not np.array_equal(*(v.load_embeddings() for v in versions))


def test_every_evaluation_is_kept_and_the_best_can_be_opened(trained, run):
    assert set(finetunings(run)) >= set(trained)
    for name in trained:
        finetuning = Finetuning.open(run, name)
        assert finetuning.is_done and finetuning.config.finetune == trained[name].config.finetune
        evaluations = json.loads((finetuning.folder / EVALUATIONS).read_text())["evaluations"]
        assert [e["step"] for e in evaluations] == ([1, 2] if name == "none" else [2, 4])  # one has no patience
        best = max(evaluations, key=lambda e: e["exact_match"])["step"]
        assert best_step(finetuning.folder) == best
        assert [f.name for f in sorted(finetuning.folder.glob("best-*"))] == [f"best-{best:08d}"]
        if best == STEPS:
            jax.tree.map(np.testing.assert_array_equal, finetuning.best_params(), last_params(finetuning))


class Killed(Exception):
    """Stands for a crash."""


def before_batch(number):
    take = RetrievalStream.take

    def killed(self, params):
        if self.state()["position"] == number:
            raise Killed
        return take(self, params)

    return RetrievalStream, "take", killed


def before_report(number):
    """Between an evaluation and the line of its step."""
    write = MetricsWriter.write

    def killed(self, step, values):
        if step == number:
            raise Killed
        write(self, step, values)

    return MetricsWriter, "write", killed


@pytest.mark.parametrize("kill", [before_batch(3), before_report(4)], ids=["training", "evaluated"])
def test_a_killed_run_ends_with_the_same_bits(trained, begin, questions, monkeypatch, kill, request):
    finetuning = begin(f"killed {request.node.callspec.id}")
    with monkeypatch.context() as patch:
        patch.setattr(*kill)
        with pytest.raises(Killed):
            train(finetuning, *questions)
    assert not finetuning.is_done
    train(finetuning, *questions)
    unbroken = trained["query"]
    jax.tree.map(np.testing.assert_array_equal, last_params(finetuning), last_params(unbroken))
    jax.tree.map(np.testing.assert_array_equal, finetuning.best_params(), unbroken.best_params())
    ours, theirs = (json.loads((f.folder / EVALUATIONS).read_text()) for f in (finetuning, unbroken))
    assert ours == theirs
    assert sorted(f.name for f in finetuning.folder.glob("best-*")) == [
        best_folder(finetuning.folder, best_step(unbroken.folder)).name
    ]


@pytest.mark.parametrize("is_damaged", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_kill_before_an_index_version_changes_nothing(trained, begin, questions, monkeypatch, capsys, is_damaged):
    """The blocks of the batch in flight have the embeddings of the version before, which a restart must have."""
    finetuning = begin(f"killed both, damaged {is_damaged}", train_retriever="both")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(FinetuneTask, "build_index", _killed)
        train(finetuning, *questions)
    if is_damaged:
        flip_a_bit(IndexStore(finetuning.folder / "index").latest().folder / "embeddings.npy")
    train(finetuning, *questions)
    assert ("it is set aside, and built again" in capsys.readouterr().out) == is_damaged
    unbroken = trained["both"]
    jax.tree.map(np.testing.assert_array_equal, last_params(finetuning), last_params(unbroken))
    versions = [[v.step for v in IndexStore(f.folder / "index").versions()] for f in (finetuning, unbroken)]
    assert versions == [[0, 3], [0, 3]]


def _killed(*arguments):
    raise Killed


def test_what_is_done_is_not_done_again(trained, questions, capsys):
    before = (trained["query"].folder / "metrics.jsonl").read_bytes()
    train(trained["query"], *questions)
    assert "is done" in capsys.readouterr().out
    assert (trained["query"].folder / "metrics.jsonl").read_bytes() == before


@pytest.fixture
def judged(begin, questions, tmp_path):
    """A task whose exact matches are given, and its replicated parameters."""

    def make(name, scores, **changes):
        finetuning = begin(name, **changes)
        finetuning.folder = epath.Path(tmp_path) / name
        finetuning.folder.mkdir()
        given = iter(scores)
        task = task_of(finetuning, questions[0], exact_match=lambda params: next(given))
        task.steps = 100
        return task, finetuning.folder

    return make


def small(step) -> dict:
    return {"embedder": {"kernel": np.full(2, step, np.float32)}, "reader": {"kernel": np.full(3, step, np.float32)}}


def best_step(folder) -> int | None:
    return BestParams(folder, METRIC).step


def folders(folder) -> list[str]:
    return sorted(f.name for f in folder.glob("best-*"))


def test_the_first_of_the_best_evaluations_is_kept(judged):
    task, folder = judged("best", [0.1, 0.3, 0.3, 0.2, 0.4])
    kept = {2: 2, 4: 4, 6: 4, 8: 4, 10: 10}
    assert best_step(folder) is None
    for step, best in kept.items():
        assert task.evaluates_at(step) and not task.evaluates_at(step - 1)
        assert list(task.evaluate(step, parallel.replicate(small(step)))) == ["dev_exact_match"]
        assert best_step(folder) == best and folders(folder) == [best_folder(folder, best).name]
        with Checkpoints(best_folder(folder, best), read_only=True) as checkpoints:
            restored = checkpoints.restore_params(best, small(0))
        jax.tree.map(np.testing.assert_array_equal, restored, small(best))


def test_all_zero_keeps_the_first(judged):
    task, folder = judged("zero", [0.0, 0.0, 0.0])
    for step in (2, 4, 6):
        task.evaluate(step, parallel.replicate(small(step)))
    assert best_step(folder) == 2 and folders(folder) == ["best-00000002"]


def test_an_evaluation_that_is_repeated_after_a_kill_replaces_the_first(judged):
    """The run was killed before the evaluation was reported, and went on from the checkpoint before it."""
    task, folder = judged("again", [0.1, 0.3])
    task.evaluate(2, parallel.replicate(small(2)))
    task.evaluate(4, parallel.replicate(small(4)))
    resumed = FinetuneTask(
        task._config, task._data, task.questions, task._store, task._first, lambda params: 0.3, folder
    )
    resumed.steps = 100
    resumed.evaluate(4, parallel.replicate(small(4)))
    evaluations = json.loads((folder / EVALUATIONS).read_text())["evaluations"]
    assert evaluations == [{"step": 2, "exact_match": 0.1}, {"step": 4, "exact_match": 0.3}]
    assert best_step(folder) == 4 and folders(folder) == ["best-00000004"]


@pytest.mark.parametrize(
    ("patience", "scores", "over_after"),
    [
        (1, [0.2, 0.2], 2),
        (2, [0.1, 0.3, 0.3, 0.2, 0.9], 4),
        (2, [0.1, 0.2, 0.1, 0.3, 0.2, 0.1], 6),
        (3, [0.5, 0.1, 0.1], None),
        (0, [0.5, 0.1, 0.1, 0.1], None),
    ],
)
def test_patience(judged, patience, scores, over_after):
    task, _ = judged("patience", scores, patience=patience)
    for number in range(1, len(scores) + 1):
        task.evaluate(2 * number, parallel.replicate(small(number)))
        assert task.is_over(2 * number) == (number == over_after)
        if number == over_after:
            assert not task.is_over(2 * number - 2)  # what a resumed run asks of the step that it starts from
            return
    assert over_after is None


def test_other_settings_than_those_it_was_begun_with_are_refused(trained, run, begin):
    with pytest.raises(
        ConfigError, match=r"begun with other settings \(learning_rate: 0.5 here, 0.001 there\): pass --name"
    ) as e:
        begin("query", learning_rate=0.5)
    assert "\n" not in str(e.value)
    with pytest.raises(ConfigError, match=r"\(dataset: 'wq' here, 'cloze' there\)"):
        Finetuning.create(run, "query", "wq", SETTINGS)
    assert Finetuning.open(run, "query").config.finetune == SETTINGS
    with pytest.raises(ConfigError, match="was not fine-tuned as other: run realm finetune"):
        Finetuning.open(run, "other")


def test_micro_batches_may_change(trained, run, begin):
    assert begin("query", micro_batch=1).config.finetune.micro_batch == 1
    assert begin("query").config.finetune == SETTINGS


def test_before_anything_is_made_settings_may_be_mended(begin, questions):
    with pytest.raises(ConfigError, match="no training question has an answer"):
        train(begin("mended", batch_size=16), [Question("1", "who?")], questions[1])
    begin("mended", batch_size=8)


@pytest.mark.parametrize(
    ("retriever", "encoder"), [("pretrain", "pretrain"), ("ict", "init"), ("init", "init"), ("ict", "pretrain")]
)
def test_first_weights_come_from_the_phases_that_the_settings_name(run, begin, retriever, encoder):
    ours = begin(f"{retriever}-{encoder}", retriever_from=retriever, encoder_from=encoder).first_params()

    def weights(phase, part):
        of_phase = phases.first_params(run) if phase == "init" else phases.last_params(run, phase, (part,))
        return of_phase[part]

    for side in ("query", "block"):
        expected = embedder.tower(weights(retriever, "embedder"), side)
        jax.tree.map(np.testing.assert_array_equal, ours["embedder"][side], expected)
    jax.tree.map(np.testing.assert_array_equal, ours["reader"]["bert"], weights(encoder, "encoder")["bert"])
    scorer = jax.device_get(reader.init(run.config.model, jax.random.key(run.config.seed)))["span"]
    jax.tree.map(np.testing.assert_array_equal, ours["reader"]["span"], scorer)


def test_a_retriever_that_did_not_make_the_runs_index_gets_its_own(run, begin):
    finetuning = begin("own", retriever_from="ict")
    first, data = finetuning.first_params(), open_prepared(run)
    store = finetuning.index_store(data, first)
    assert store.folder == finetuning.folder / "index"
    (version,) = store.versions()
    assert version.manifest["embedded_by"] == {"phase": "ict", "step": run.config.ict.steps}
    blocks = np.arange(5)
    tokens = data.knowledge.embedder_tokens(blocks, run.config.corpus.block_len_tokens)
    expected = embedder.embed(run.config.model, first["embedder"], "block", tokens)
    np.testing.assert_allclose(version.load_embeddings()[:5], expected, rtol=1e-4, atol=1e-5)
    finetuning.index_store(data, first)
    assert len(store.versions()) == 1
    same = begin("same")
    assert same.index_store(data, same.first_params()).folder == run.index_folder


def test_a_phase_that_is_not_done_is_named(new_run):
    finetuning = Finetuning.create(new_run(), "cloze", "cloze", SETTINGS)
    with pytest.raises(ConfigError, match="no finished pretrain phase: run realm pretrain"):
        finetuning.first_params()


@pytest.mark.parametrize(("rate", "expected"), [(None, 1e-3), (0.0, 0.0), (1e-2, 1e-2)])
def test_the_retriever_may_learn_at_a_rate_of_its_own(begin, questions, rate, expected):
    """The first updates at full rate are as large as the rates: BERT's Adam divides by the gradient's size."""
    task = task_of(begin(f"rate {rate}", retriever_learning_rate=rate, batch_size=8), questions[0])
    tree = {"scale": np.zeros(4, np.float32)}
    params = {"embedder": {"query": tree, "block": tree}, "reader": tree}
    gradient = jax.tree.map(lambda x: x + np.float32(0.1), params)
    optimizer = task.optimizer()
    state = optimizer.init(params)
    for _ in range(2):
        updates, state = optimizer.update(gradient, state, params)
    size = {name: float(np.abs(jax.tree.leaves(updates["embedder"][name])[0]).max()) for name in ("query", "block")}
    reader_size = float(np.abs(updates["reader"]["scale"]).max())
    assert size["block"] == 0
    assert size["query"] / reader_size == pytest.approx(expected / SETTINGS.learning_rate, rel=1e-5)
