"""Forward values, loss and gradients of a small REALM against those of an independent implementation.

The golden files hold the weights, inputs and outputs of random models in another framework; every tensor of theirs has
one of ours by name. Their joint inputs have no null block, so the parts are composed here as the training step does.
"""

import collections
import functools
import json
import pathlib
import pickle
import re
import zipfile

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

from realm_jax.config import ModelConfig
from realm_jax.data.pipeline import mask_slots
from realm_jax.losses import marginal
from realm_jax.models import embedder, knowledge_encoder
from realm_jax.types import Tokens, register_pytrees

FOLDER = pathlib.Path(__file__).parents[2].parent / "shared" / "parity"

pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason="no golden models at ../shared/parity")

VALUE_ERROR = 2e-5
GRADIENT_ERROR = 1e-4
ZERO = 1e-6
"""A gradient of a smaller norm is zero in exact arithmetic."""

# Our module -> theirs. Dense kernels are transposed; LayerNorm scales and embeddings are their `weight`.
LAYER_MODULES = {
    "attention.query": "attention.self.query",
    "attention.key": "attention.self.key",
    "attention.value": "attention.self.value",
    "attention.output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "intermediate": "intermediate.dense",
    "output": "output.dense",
    "output_norm": "output.LayerNorm",
}
MODULES = {
    "bert.embeddings.word": "realm.embeddings.word_embeddings",
    "bert.embeddings.position": "realm.embeddings.position_embeddings",
    "bert.embeddings.type": "realm.embeddings.token_type_embeddings",
    "bert.embeddings.norm": "realm.embeddings.LayerNorm",
    "pooler": "realm.pooler.dense",
    "projection": "cls.dense",
    "projection_norm": "cls.LayerNorm",
    "mlm.transform": "cls.predictions.transform.dense",
    "mlm.norm": "cls.predictions.transform.LayerNorm",
    "mlm": "cls.predictions",
}


def their_name(path) -> str:
    module, leaf = ".".join(key.key for key in path).rsplit(".", 1)
    layer = re.fullmatch(r"bert\.layer_(\d+)\.(.+)", module)
    theirs = f"realm.encoder.layer.{layer[1]}.{LAYER_MODULES[layer[2]]}" if layer else MODULES[module]
    return f"{theirs}.{'bias' if leaf == 'bias' else 'weight'}"


def named(params) -> dict[str, np.ndarray]:
    """Our tree's leaves by their names and in their layout."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {their_name(path): np.asarray(x).T if path[-1].key == "kernel" else np.asarray(x) for path, x in leaves}


class TensorUnpickler(pickle.Unpickler):
    """Reads float32 tensors of a torch archive; any name but the three that those need is an error."""

    def __init__(self, archive: zipfile.ZipFile):
        self._archive, self._root = archive, archive.namelist()[0].split("/")[0]
        super().__init__(archive.open(f"{self._root}/data.pkl"))

    def find_class(self, module, name):
        known = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch", "FloatStorage"): np.float32,
            ("torch._utils", "_rebuild_tensor_v2"): self._tensor,
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"{module}.{name} is no part of a tensor")
        return known[module, name]

    def persistent_load(self, pid):
        _, dtype, key, _, _ = pid
        return np.frombuffer(self._archive.read(f"{self._root}/data/{key}"), dtype)

    @staticmethod
    def _tensor(storage, offset, shape, stride, *_):
        contiguous = tuple(int(np.prod(shape[i + 1 :])) for i in range(len(shape)))
        assert stride == contiguous
        return storage[offset : offset + int(np.prod(shape))].reshape(shape)


def scorer_tensors() -> dict[str, np.ndarray]:
    """The retriever that the relevance scores and gradients were made with, under the embedder's names."""
    with zipfile.ZipFile(FOLDER / "scorer" / "pytorch_model.bin") as archive:
        tensors = TensorUnpickler(archive).load()
    towers = [
        {name.removeprefix(side): x for name, x in tensors.items() if name.startswith(side)}
        for side in ("embedder.", "query_embedder.")
    ]
    for name, x in towers[1].items():  # one tower: the second, where it is stored at all, is the same
        np.testing.assert_array_equal(x, towers[0][name])
    return towers[0]


def loaded(template, tensors: dict[str, np.ndarray]):
    """The golden weights in the shape of our tree."""

    def leaf(path, ours):
        theirs = tensors[their_name(path)]
        theirs = theirs.T if path[-1].key == "kernel" else theirs
        assert theirs.shape == ours.shape, path
        return jnp.asarray(theirs)

    return jax.tree_util.tree_map_with_path(leaf, template)


@pytest.fixture(scope="module")
def config():
    theirs = json.loads((FOLDER / "embedder" / "config.json").read_text())
    assert theirs["hidden_act"] == "gelu_new"
    return ModelConfig(
        vocab_size=theirs["vocab_size"],
        hidden_size=theirs["hidden_size"],
        num_layers=theirs["num_hidden_layers"],
        num_heads=theirs["num_attention_heads"],
        intermediate_size=theirs["intermediate_size"],
        max_positions=theirs["max_position_embeddings"],
        projection_dim=theirs["retriever_proj_size"],
        dropout=0.0,
        gelu="tanh",
        pooling="cls",
    )


@pytest.fixture(scope="module")
def golden():
    return dict(np.load(FOLDER / "io.npz"))


@pytest.fixture(scope="module")
def params(config):
    """Of the scorer and of the knowledge encoder."""
    rng = jax.random.key(0)
    encoder = load_file(FOLDER / "knowledge_encoder" / "model.safetensors")
    return {
        "embedder": {"shared": loaded(embedder.init(config, rng)["shared"], scorer_tensors())},
        "encoder": loaded(knowledge_encoder.init(config, rng), encoder),
    }


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


def test_query_embeddings(config, golden, inputs):
    tensors = load_file(FOLDER / "embedder" / "model.safetensors")
    tower = loaded(embedder.init(config, jax.random.key(0))["shared"], tensors)
    ours = jax.jit(lambda tower, query: embedder.embed(config, {"shared": tower}, "query", query))(tower, inputs[0])
    assert_close(ours, golden["query_emb"], "query_emb")


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
        "grad/scorer/embedder.": named(gradients["embedder"]["shared"]),
        "grad/knowledge_encoder/": named(gradients["encoder"]),
    }
    ours = {prefix + name: value for prefix, side in sides.items() for name, value in side.items()}
    theirs = {name: value for name, value in golden.items() if name.startswith(tuple(sides))}
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
