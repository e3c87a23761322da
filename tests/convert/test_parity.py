"""Forward values, losses and gradients of small REALM models against those of an independent implementation.

The golden files (`make_golden_models.py`) hold the weights, inputs and outputs of random models of another framework;
the weights come in through `realm convert`, and the training tasks' own losses run.
"""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from realm_jax import parallel
from realm_jax.batches import FinetuneBatch, PretrainBatch, Tokens
from realm_jax.config import Config, FinetuneConfig, ModelConfig
from realm_jax.convert.model_config import model_config
from realm_jax.convert.model_sources import open_source
from realm_jax.data.assembly import body_mask, mask_slots
from realm_jax.losses import openqa_loss
from realm_jax.models import embedder, knowledge_encoder, names, parts, reader, realm
from realm_jax.models.sequences import alone
from realm_jax.openqa.predict import span_reader
from realm_jax.training.finetune_task import finetune_loss
from realm_jax.training.pretrain_task import realm_loss

GOLDEN = pathlib.Path(__file__).parent / "golden_models"
SCRIPT = GOLDEN.with_name("make_golden_models.py")
VALUE_ERROR = 2e-5
GRADIENT_ERROR = 1e-4
MAX_SPAN_WIDTH = 5
ZERO = 2e-6
"""A gradient of a smaller norm is zero in exact arithmetic."""


def load(folder: str, kind: str, root: str = "") -> dict:
    """A golden model's parameters."""
    models = parts.find_models(open_source(str(GOLDEN / folder)))
    model = next(m for m in models if m.kind == kind and m.root == root)
    config, _ = model_config([model], ModelConfig())
    return jax.tree.map(jnp.asarray, parts.read(model, kind, config, kind)[0])


@pytest.fixture(scope="module")
def config():
    models = [m for f in ("knowledge_encoder", "openqa") for m in parts.find_models(open_source(str(GOLDEN / f)))]
    model, notices = model_config(models, ModelConfig(dropout=0.0))
    assert (model.gelu, model.pooling) == ("tanh", "cls")
    assert len(notices) == 2 and all("pad_token_id 1" in notice for notice in notices)
    return Config(model=model, finetune=FinetuneConfig(max_span_width=MAX_SPAN_WIDTH))


@pytest.fixture(scope="module")
def golden():
    return dict(np.load(GOLDEN / "io.npz"))


@pytest.fixture(scope="module")
def pretrained():
    """Parameters of the scorer and of the knowledge encoder."""
    tower = load("scorer", "embedder", "embedder.")
    return {"embedder": {"shared": tower}, "encoder": load("knowledge_encoder", "encoder")}


@pytest.fixture(scope="module")
def finetuned():
    """Parameters of the whole question-answering model."""
    return {
        "embedder": {"query": load("openqa", "embedder", "embedder.")},
        "reader": load("openqa", "reader", "reader."),
    }


def tokens(golden, name) -> Tokens:
    ids, mask, types = (golden[f"{name}_{array}"] for array in ("ids", "mask", "types"))
    return Tokens(ids.astype(np.int32), mask.astype(bool), types.astype(np.int32))


@pytest.fixture(scope="module")
def pretrain_batch(golden) -> PretrainBatch:
    """The null block stands apart and the predictions are padded to a common number, as our stream has them."""
    mask, query, joint = golden["mlm_mask"], tokens(golden, "query"), tokens(golden, "joint")
    positions = np.zeros((len(mask), mask.sum(1).max()), np.int32)
    weights = np.zeros(positions.shape, np.float32)
    for b, row in enumerate(mask):
        places = np.flatnonzero(row)
        positions[b, : len(places)], weights[b, : len(places)] = places, 1
    return PretrainBatch(
        query=query,
        blocks=jax.tree.map(lambda x: x[:, 1:], tokens(golden, "block")),
        joint=jax.tree.map(lambda x: x[:, 1:], joint),
        null_joint=jax.tree.map(lambda x: x[:, 0, : query.ids.shape[1] + 1], joint),
        candidate_mask=np.ones(joint.ids.shape[:2], bool),
        mask_positions=positions,
        mask_targets=np.take_along_axis(golden["labels"], positions, 1).astype(np.int32),
        mask_weights=weights,
        mask_slots=mask_slots(weights, 1),
    )


@pytest.fixture(scope="module")
def finetune_batch(golden) -> FinetuneBatch:
    joint = tokens(golden, "read")
    blocks, length = joint.ids.shape[1:]
    starts, ends = (golden[name][:, :blocks] for name in ("starts", "ends"))
    correct = openqa_loss.correct_spans(*reader.spans(length, MAX_SPAN_WIDTH), starts, ends)
    np.testing.assert_array_equal(body_mask(joint), golden["body_mask"])
    return FinetuneBatch(
        query=tokens(golden, "question"),
        beam_emb=open_source(str(GOLDEN / "openqa")).tensors["block_emb"][golden["beam"]],
        beam_mask=np.ones(golden["beam"].shape, bool),
        beam_correct=golden["has_answers"],
        blocks=None,
        joint=joint,
        body_mask=body_mask(joint),
        correct_spans=correct,
        weight=np.ones(len(golden["beam"]), np.float32),
    )


def assert_close(ours, theirs, what):
    """Largest difference over the largest value."""
    error = np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max()
    print(f"{what}: relative error {error:.1e}")
    assert error < VALUE_ERROR, what


def check_gradients(trees: dict, golden, config, num_zero: int):
    """Every gradient, by norm; those that are zero in exact arithmetic only have to be small.

    Args:
        trees: (part, what the golden names begin with) -> gradients.
    """
    ours = {}
    for (part, prefix), tree in trees.items():
        leaves, table = names.flatten(tree), names.names(part, config.model.num_layers, pooler=True)
        assert {name.ours for name in table} == leaves.keys()
        ours |= {prefix + name.torch: names.from_torch(name, np.asarray(leaves[name.ours])) for name in table}
    theirs = {name: value for name, value in golden.items() if name.startswith(tuple(prefix for _, prefix in trees))}
    assert ours.keys() == theirs.keys()
    errors = {}
    for name, their_gradient in theirs.items():
        norm = np.linalg.norm(their_gradient)
        if norm < ZERO:
            assert np.linalg.norm(ours[name]) < ZERO, name
        else:
            errors[name] = np.linalg.norm(ours[name] - their_gradient) / norm
    worst = max(errors, key=errors.get)
    print(f"gradients: {len(errors)} of {len(theirs)} not zero; worst relative error {errors[worst]:.1e}, {worst}")
    assert errors[worst] < GRADIENT_ERROR, worst
    assert len(theirs) - len(errors) == num_zero


@pytest.mark.parametrize(
    ("folder", "root", "queries", "key"),
    [("embedder", "", "query", "query_emb"), ("openqa", "embedder.", "question", "openqa_query_emb")],
)
def test_query_embeddings(config, golden, folder, root, queries, key):
    tower = {"shared": load(folder, "embedder", root)}
    ours = jax.jit(functools.partial(embedder.embed, config.model, tower, "query"))(tokens(golden, queries))
    assert_close(ours, golden[key], key)


def test_logits_at_masked_positions(config, pretrained, golden, pretrain_batch):
    joint = tokens(golden, "joint")
    encoder = {"params": pretrained["encoder"]}
    flat = jax.tree.map(lambda x: x.reshape(-1, x.shape[-1]), joint)
    positions = np.repeat(pretrain_batch.mask_positions, joint.ids.shape[1], axis=0)
    logits = jax.jit(knowledge_encoder.KnowledgeEncoder(config.model).apply)(encoder, alone(flat), positions)
    by_prediction = logits.reshape(*joint.ids.shape[:2], *logits.shape[1:]).swapaxes(1, 2)
    assert_close(by_prediction[pretrain_batch.mask_weights > 0], golden["mlm_logits"], "mlm_logits")


def test_pretraining_scores_loss_and_gradients(config, pretrained, golden, pretrain_batch):
    def loss(params, batch):
        total, count, _ = realm_loss(config, params, batch, None)
        return total / count, realm.forward(config, params, batch, None).scores

    (value, scores), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(pretrained, pretrain_batch)
    assert_close(scores, golden["relevance"], "relevance")
    assert_close(value, golden["mlm_loss"], "mlm_loss")
    trees = {
        ("embedder", "grad/scorer/embedder."): gradient["embedder"]["shared"],
        ("encoder", "grad/knowledge_encoder/"): gradient["encoder"],
    }
    check_gradients(trees, golden, config, num_zero=4)  # the keys' biases


def test_fine_tuning_losses_and_gradients(config, finetuned, golden, finetune_batch):
    def loss(params, batch):
        total, _, metrics = finetune_loss(config, params, batch, None)
        return total, metrics

    (_, metrics), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(finetuned, finetune_batch)
    for name in ("retriever_loss", "reader_loss"):
        total, count = metrics[name]
        assert_close(total, golden[name].sum(), name)
        assert count == (golden[name] > 0).sum()
    trees = {
        ("embedder", "grad/openqa/embedder."): gradient["embedder"]["query"],
        ("reader", "grad/openqa/reader."): gradient["reader"],
    }
    check_gradients(trees, golden, config, num_zero=6)  # those, and what moves all spans' scores alike


def test_predicted_spans(config, finetuned, golden, finetune_batch):
    batch = finetune_batch
    questions, blocks = batch.joint.ids.shape[:2]
    scores = np.einsum("qd,qkd->qk", golden["openqa_query_emb"], batch.beam_emb)[:, :blocks]
    read = span_reader(config.model, MAX_SPAN_WIDTH)
    pairs = jax.tree.map(lambda x: x.reshape(-1, 1, *x.shape[2:]), (batch.joint, batch.body_mask, scores))
    out = jax.device_get(read(parallel.replicate(finetuned["reader"]), *parallel.shard(pairs)))
    best, first, last, _ = (x.reshape(questions, blocks) for x in out)
    block = best.argmax(1)
    predicted = np.stack([block, first[np.arange(questions), block], last[np.arange(questions), block]], axis=1)
    np.testing.assert_array_equal(predicted, golden["predicted"])


@pytest.mark.slow
def test_golden_models_are_what_the_script_writes(tmp_path, golden, oracle):
    oracle(SCRIPT.read_text(), tmp_path)
    assert {x.relative_to(tmp_path) for x in tmp_path.rglob("*")} == {x.relative_to(GOLDEN) for x in GOLDEN.rglob("*")}
    for folder in sorted(file.parent.name for file in GOLDEN.glob("*/config.json")):
        new, old = (open_source(str(root / folder)) for root in (tmp_path, GOLDEN))
        assert new.config == old.config and new.tensors.keys() == old.tensors.keys()
        for name, tensor in new.tensors.items():
            np.testing.assert_array_equal(tensor, old.tensors[name], err_msg=f"{folder}: {name}")
    new = np.load(tmp_path / "io.npz")
    assert set(new.files) == golden.keys()
    for name, old in golden.items():
        np.testing.assert_allclose(new[name], old, rtol=1e-5, atol=1e-6, err_msg=name)
