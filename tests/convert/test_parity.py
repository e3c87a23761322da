"""Forward values, losses and gradients of small REALM models against those of an independent implementation.

The golden files hold the weights, inputs and outputs of random models in another framework; the weights come in
through `realm_jax.convert`, and the models' own code runs. Their joint inputs have no null block, so the parts are
composed here as the training step does.
"""

import functools
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from realm_jax.config import ModelConfig
from realm_jax.convert import parts
from realm_jax.convert.model_config import model_config
from realm_jax.convert.sources import open_source
from realm_jax.data.pipeline import mask_slots
from realm_jax.losses import marginal, openqa
from realm_jax.models import embedder, knowledge_encoder, names, reader
from realm_jax.types import Tokens, register_pytrees

FOLDER = pathlib.Path(__file__).parents[2].parent / "shared" / "parity"

pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason="no golden models at ../shared/parity")

VALUE_ERROR = 2e-5
GRADIENT_ERROR = 1e-4
MAX_SPAN_WIDTH = 5
ZERO = 1e-6
"""A gradient of a smaller norm is zero in exact arithmetic."""


def load(folder: str, kind: str, root: str = "") -> dict:
    """A golden model's parameters."""
    models = parts.find_models(open_source(str(FOLDER / folder)))
    model = next(m for m in models if m.kind == kind and m.root == root)
    config, _ = model_config([model], ModelConfig())
    return jax.tree.map(jnp.asarray, parts.read(model, kind, config, kind)[0])


@pytest.fixture(scope="module")
def config():
    models = [m for f in ("embedder", "reader") for m in parts.find_models(open_source(str(FOLDER / f)))]
    config, notices = model_config(models, ModelConfig(dropout=0.0))
    assert (config.gelu, config.pooling) == ("tanh", "cls")
    assert len(notices) == 2 and all("pad_token_id 1" in notice for notice in notices)
    return config


@pytest.fixture(scope="module")
def golden():
    return dict(np.load(FOLDER / "io.npz"))


@pytest.fixture(scope="module")
def params():
    """Of the scorer and of the knowledge encoder."""
    tower = load("scorer", "embedder", "embedder.")
    return {"embedder": {"shared": tower}, "encoder": load("knowledge_encoder", "encoder")}


def named(tree, part, config) -> dict[str, np.ndarray]:
    """Our tree's leaves by their names and in their layout."""
    leaves = names.flatten(tree)
    table = names.names(part, config.num_layers, pooler=True)
    assert {name.ours for name in table} == leaves.keys()
    return {name.torch: names.from_torch(name, np.asarray(leaves[name.ours])) for name in table}


def tokens(golden, name, types=None) -> Tokens:
    ids, mask = jnp.asarray(golden[f"{name}_ids"], jnp.int32), jnp.asarray(golden[f"{name}_mask"], bool)
    return Tokens(ids, mask, jnp.zeros_like(ids) if types is None else jnp.asarray(golden[types], jnp.int32))


@pytest.fixture(scope="module")
def inputs(golden):
    """(query, blocks, joint, positions, targets, weights, slots), the predictions padded to a common number."""
    register_pytrees()
    mask = golden["mlm_mask"]
    masks = int(mask.sum(1).max())
    positions = np.zeros((len(mask), masks), np.int32)
    weights = np.zeros(positions.shape, np.float32)
    for b, row in enumerate(mask):
        places = np.flatnonzero(row)
        positions[b, : len(places)], weights[b, : len(places)] = places, 1
    targets = np.take_along_axis(golden["labels"], positions, 1).astype(np.int32)
    predictions = [jnp.asarray(x) for x in (positions, targets, weights, mask_slots(weights, 1))]
    blocks, joint = tokens(golden, "block", "block_types"), tokens(golden, "joint", "joint_types")
    return tokens(golden, "query"), blocks, joint, *predictions


def scores_of(config, params, query, blocks):
    query_emb = embedder.embed(config, params["embedder"], "query", query)
    block_emb = embedder.embed(config, params["embedder"], "block", blocks)
    return embedder.retrieval_scores(query_emb, block_emb)


def loss_of(config, params, inputs):
    query, blocks, joint, positions, targets, weights, slots = inputs
    scores = scores_of(config, params, query, blocks)
    states = knowledge_encoder.candidate_states(config, params["encoder"], joint, positions)
    logp, _ = knowledge_encoder.token_logp(config, params["encoder"], states, targets, slots)
    total, count = marginal.token_marginal(marginal.log_prior(scores, jnp.ones(scores.shape, bool)), logp, weights)
    return total / count


def assert_close(ours, theirs, what):
    """Largest difference over the largest value."""
    error = np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max()
    print(f"{what}: relative error {error:.1e}")
    assert error < VALUE_ERROR, what


def check_gradients(ours: dict[str, np.ndarray], golden, prefixes: tuple[str, ...], num_zero: int):
    """Every gradient under the prefixes, by norm; those that are zero in exact arithmetic only have to be small."""
    theirs = {name: value for name, value in golden.items() if name.startswith(prefixes)}
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
    ("folder", "root", "key"),
    [("embedder", "", "query_emb"), ("openqa", "embedder.", "openqa_query_emb")],
)
def test_query_embeddings(config, golden, inputs, folder, root, key):
    tower = load(folder, "embedder", root)
    ours = jax.jit(lambda tower, query: embedder.embed(config, {"shared": tower}, "query", query))(tower, inputs[0])
    assert_close(ours, golden[key], key)


def test_retrieval_scores(config, params, golden, inputs):
    scores = jax.jit(functools.partial(scores_of, config))(params, inputs[0], inputs[1])
    assert_close(scores, golden["relevance"], "relevance")


def test_logits_at_masked_positions(config, params, golden, inputs):
    _, _, joint, positions, _, weights, _ = inputs
    batch, candidates, length = joint.ids.shape
    states = jax.jit(functools.partial(knowledge_encoder.candidate_states, config))(params["encoder"], joint, positions)
    encoder = knowledge_encoder.KnowledgeEncoder(config)
    logits = encoder.apply({"params": params["encoder"]}, states.reshape(-1, states.shape[-1]), method="head")
    logits = np.asarray(logits).reshape(*states.shape[:-1], -1)
    theirs = golden["mlm_logits"].reshape(batch, candidates, length, -1)
    for b, j in np.argwhere(np.asarray(weights)):
        assert_close(logits[b, :, j], theirs[b, :, positions[b, j]], f"mlm_logits of query {b}, prediction {j}")


def test_loss(config, params, golden, inputs):
    assert_close(jax.jit(functools.partial(loss_of, config))(params, inputs), golden["mlm_loss"], "mlm_loss")


def test_gradients_of_both_models(config, params, golden, inputs):
    gradients = jax.jit(jax.grad(lambda params: loss_of(config, params, inputs)))(params)
    sides = {
        "grad/scorer/embedder.": named(gradients["embedder"]["shared"], "embedder", config),
        "grad/knowledge_encoder/": named(gradients["encoder"], "encoder", config),
    }
    ours = {prefix + name: value for prefix, side in sides.items() for name, value in side.items()}
    check_gradients(ours, golden, tuple(sides), num_zero=4)


def reader_inputs(golden):
    """(joint tokens [1, blocks, tokens], block mask, retrieval scores [1, blocks], correct spans)."""
    block_mask = jnp.asarray(golden["reader_block_mask"])[None]
    joint = jax.tree.map(lambda x: x[:1], tokens(golden, "joint", "joint_types"))
    starts, ends = reader.spans(block_mask.shape[-1], MAX_SPAN_WIDTH)
    answers = (jnp.asarray(golden[f"reader_{name}"])[None] for name in ("starts", "ends"))
    correct = openqa.correct_spans(jnp.asarray(starts), jnp.asarray(ends), *answers)
    return joint, block_mask, jnp.asarray(golden["reader_relevance"])[None], correct


def reader_losses(config, params, inputs, has_answer):
    joint, block_mask, retrieval_scores, correct = inputs
    scores = reader.span_scores(config, params, joint, block_mask, MAX_SPAN_WIDTH)
    retriever_loss = openqa.marginal_loss(retrieval_scores, has_answer)
    return retriever_loss.sum(), openqa.reader_loss(scores, retrieval_scores, correct).sum(), scores


def test_reader(config, golden):
    params = load("reader", "reader")
    inputs = reader_inputs(golden)
    has_answer = jnp.asarray(golden["reader_has_answers"])[None]
    np.testing.assert_array_equal(inputs[-1][0], golden["reader_reader_correct"])

    def loss(params):
        retriever_loss, reader_loss, scores = reader_losses(config, params, inputs, has_answer)
        return retriever_loss + reader_loss, (retriever_loss, reader_loss, scores)

    (total, (retriever_loss, reader_loss, scores)), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    assert_close(retriever_loss, golden["reader_retriever_loss"], "retriever loss")
    assert_close(reader_loss, golden["reader_reader_loss"], "reader loss")
    assert_close(total, golden["reader_loss"], "loss")
    with_retrieval = np.asarray(scores[0] + inputs[2][0][:, None])
    block, span = np.unravel_index(with_retrieval.argmax(), with_retrieval.shape)
    starts, ends = reader.spans(inputs[1].shape[-1], MAX_SPAN_WIDTH)
    assert (block, span) == (golden["reader_block_idx"], golden["reader_candidate"])
    assert (starts[span], ends[span]) == (golden["reader_start_pos"], golden["reader_end_pos"])
    ours = {f"grad/reader/{name}": value for name, value in named(gradient, "reader", config).items()}
    check_gradients(ours, golden, ("grad/reader/",), num_zero=4)
