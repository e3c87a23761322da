"""`realm_loss`, composed of all its parts, against its definition in `slow_realm`: values, gradients, real batches.

Both sides compute in float64, so that they agree as formulas do and no fault hides behind a rounding error.
"""

import ast
import dataclasses
import functools
import itertools
import pathlib
import sys
from typing import NamedTuple

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import slow_realm
from hypothesis import strategies as st
from slow_realm import Settings

from realm_jax import parallel
from realm_jax.batches import PretrainBatch, Tokens, stack
from realm_jax.config import Config, ModelConfig, PretrainConfig
from realm_jax.data.assembly import mask_slots, with_candidates
from realm_jax.data.pipeline import MaskedSentences
from realm_jax.data.prepare import open_prepared
from realm_jax.index.source_block import drop_source
from realm_jax.models import embedder, knowledge_encoder, realm
from realm_jax.training import pretrain_task

CLS, SEP, VOCAB = 2, 3, 40
BATCH, CANDIDATES, MASKS = 3, 4, 3
QUERY, BLOCK, JOINT = 7, 9, 14
ERROR = 1e-9
STEP = 1e-5
"""Of central differences, whose error is its square."""
GRADIENT_ERROR = 1e-7

# (gelu, pooling, layers, heads)
MODELS = [("tanh", "cls", 1, 2), ("erf", "mean", 1, 1), ("tanh", "mean", 2, 2)]


@pytest.fixture(scope="module", autouse=True)
def compiled_networks():
    """Networks are compiled once for each model; what composes them runs op by op, whatever the configuration."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name, static in (
            (embedder, "embed", ("config", "side")),
            (knowledge_encoder, "candidate_states", "config"),
            (knowledge_encoder, "token_logp", "config"),
        ):
            patch.setattr(module, name, jax.jit(getattr(module, name), static_argnames=static))
        yield


def in_double(config: Config) -> Config:
    """The config in float64, a type for these tests alone: the constructor would refuse it."""
    model = dataclasses.replace(config.model)
    object.__setattr__(model, "dtype", "float64")
    return dataclasses.replace(config, model=model)


class Case(NamedTuple):
    """A configuration and what its batch looks like; all else is random."""

    model: tuple[str, str, int, int]
    shared: bool
    marginal: str
    null_block: bool
    exists: list[list[bool]]
    """[batch, candidates - 1]"""
    predicted: list[list[bool]]
    """[batch, masks]"""
    scale: float
    """Of the parameters."""
    seed: int

    @property
    def config(self) -> Config:
        gelu, pooling, num_layers, num_heads = self.model
        model = ModelConfig(
            vocab_size=VOCAB,
            hidden_size=8,
            num_layers=num_layers,
            num_heads=num_heads,
            intermediate_size=12,
            max_positions=JOINT,
            projection_dim=6,
            dropout=0.0,
            gelu=gelu,
            pooling=pooling,
            shared_tower=self.shared,
        )
        return Config(model=model, pretrain=PretrainConfig(marginal=self.marginal, null_block=self.null_block))

    def params(self) -> dict:
        return random_params(self.config.model, np.random.default_rng(self.seed), self.scale)

    def batch(self) -> PretrainBatch:
        return random_batch(np.random.default_rng(self.seed + 1), self.exists, self.predicted)


def settings_of(config) -> Settings:
    """What the definition has to know of a config."""
    model, pretrain = config.model, config.pretrain
    return Settings(model.num_heads, model.gelu, model.pooling, pretrain.marginal, pretrain.null_block)


UNEVEN = {
    "exists": [[True, False, True], [True, True, True], [False, True, False]],
    "predicted": [[True, True, False], [False, False, False], [True, True, True]],
    "scale": 0.3,
    "seed": 0,
}
"""A batch for cases that are not drawn."""


@functools.cache
def shapes_of(model):
    inits = {"embedder": embedder.init, "encoder": knowledge_encoder.init}
    return {part: jax.eval_shape(functools.partial(init, model), jax.random.key(0)) for part, init in inits.items()}


def random_params(model, rng, scale) -> dict:
    """All of them random, biases and gains too: none can be left out unnoticed, and two towers differ."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: (path[-1].key == "scale") + rng.normal(0, scale, leaf.shape), shapes_of(model)
    )


def random_tokens(rng, lengths, width) -> Tokens:
    """Wordpieces and segments at random, in the padding too, where nobody may look."""
    shape = (*lengths.shape, width)
    mask = np.arange(width) < lengths[..., None]
    return Tokens(rng.integers(5, VOCAB, shape, np.int32), mask, rng.integers(0, 2, shape, np.int32))


def random_batch(rng, exists, predicted) -> PretrainBatch:
    """Arrays at random, in the places of missing candidates and predictions too."""
    query = random_tokens(rng, rng.integers(5, QUERY + 1, BATCH), QUERY)
    query.ids[:, 0] = CLS
    np.put_along_axis(query.ids, query.mask.sum(1, keepdims=True) - 1, SEP, 1)
    weights, blocks = np.array(predicted, np.float32), (BATCH, CANDIDATES - 1)
    return PretrainBatch(
        query=query,
        blocks=random_tokens(rng, rng.integers(3, BLOCK + 1, blocks), BLOCK),
        joint=random_tokens(rng, rng.integers(5, JOINT + 1, blocks), JOINT),
        null_joint=random_tokens(rng, query.mask.sum(1) + 1, QUERY + 1),
        candidate_mask=np.concatenate([np.ones((BATCH, 1), bool), exists], axis=1),
        mask_positions=rng.integers(1, 5, weights.shape, np.int32),
        mask_targets=rng.integers(5, VOCAB, weights.shape, np.int32),
        mask_weights=weights,
        mask_slots=mask_slots(weights, 1, weights.size),  # one shape, to be compiled once
    )


def realm_loss(config, params, batch):
    """The product's, in float64."""
    params, batch = jax.tree.map(lambda x: jnp.asarray(x, float if x.dtype.kind == "f" else None), (params, batch))
    return pretrain_task.realm_loss(in_double(config), params, batch, None)


def check(config, params, batch, queries):
    """The loss and everything that is measured beside it."""
    with jax.enable_x64(True):
        total, count, metrics = jax.device_get(realm_loss(config, params, batch))
    assert total.dtype == np.float64
    expected = slow_realm.objective(queries, params, settings_of(config))
    assert expected.keys() == {"loss", *metrics} - {"tokens"}
    for name, (value, number) in expected.items():
        ours = (total, count) if name == "loss" else metrics[name]
        assert tuple(ours) == (pytest.approx(value, rel=ERROR, abs=ERROR), number), name


def flags(width):
    return st.lists(st.lists(st.booleans(), min_size=width, max_size=width), min_size=BATCH, max_size=BATCH)


CASES = st.builds(
    Case,
    model=st.sampled_from(MODELS),
    shared=st.booleans(),
    marginal=st.sampled_from(["token", "sequence"]),
    null_block=st.booleans(),
    exists=flags(CANDIDATES - 1),
    predicted=flags(MASKS),
    scale=st.sampled_from([0.1, 0.3, 0.7]),
    seed=st.integers(0, 2**32),
)


@hypothesis.settings(
    max_examples=200, derandomize=True, deadline=None, database=None, phases=[hypothesis.Phase.generate]
)
@hypothesis.given(CASES)
def test_loss_and_metrics_are_the_definitions(case):
    batch = case.batch()
    check(case.config, case.params(), batch, slow_realm.from_arrays(batch))


def test_the_definition_imports_nothing_of_ours():
    tree = ast.parse(pathlib.Path(slow_realm.__file__).read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in imports if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in names} <= {"numpy", *sys.stdlib_module_names}


def gradient_in_scores(case, monkeypatch) -> np.ndarray:
    """d sum / d f(x, z) [batch, candidates] through `realm_loss`: of zeros that are added to the scores."""
    scores = realm.candidate_scores

    def loss(added):
        monkeypatch.setattr(realm, "candidate_scores", lambda *arguments: scores(*arguments) + added)
        return realm_loss(case.config, case.params(), case.batch())[0]

    with jax.enable_x64(True):
        return np.asarray(jax.grad(loss)(jnp.zeros((BATCH, CANDIDATES))))


def central_difference(function, x) -> float:
    return (function(x + STEP) - function(x - STEP)) / (2 * STEP)


@pytest.mark.parametrize("null_block", [True, False], ids=["null block", "no null block"])
@pytest.mark.parametrize("marginal", ["token", "sequence"])
def test_gradient_in_the_scores(marginal, null_block, monkeypatch):
    """Against finite differences of the definition, and the paper's r(z) where the whole span is marginalised."""
    case = Case(MODELS[1], False, marginal, null_block, **UNEVEN)
    settings, params = settings_of(case.config), case.params()
    expected = np.zeros((BATCH, CANDIDATES))
    for b, query in enumerate(slow_realm.from_arrays(case.batch())):
        score = slow_realm.scores(query, params, settings)
        p_y = slow_realm.likelihoods(query, slow_realm.predictions(query, params, settings))

        def loss_at(z, value, score=score, p_y=p_y):
            return sum(slow_realm.losses({**score, z: value}, p_y, settings))

        for z in score:
            expected[b, z] = central_difference(functools.partial(loss_at, z), score[z])
        if query.masked and marginal == "sequence":
            for z, reward in slow_realm.rewards(score, p_y, settings).items():
                assert expected[b, z] == pytest.approx(-reward, abs=GRADIENT_ERROR)
    gradient = gradient_in_scores(case, monkeypatch)
    np.testing.assert_allclose(gradient, expected, atol=GRADIENT_ERROR)
    assert np.abs(gradient).max() > 0.01
    missing = ~case.batch().candidate_mask
    assert not gradient[missing].any() and not gradient[1].any()  # query 1 predicts nothing


def parts(params):
    """Paths of the modules of each tower and of the encoder: BERT, pooler, projection, its norm; BERT, head."""
    towers = [("embedder", name) for name in params["embedder"]]
    return [(*path, name) for path in [*towers, ("encoder",)] for name in functools.reduce(dict.get, path, params)]


def random_direction(rng, params, part):
    """Normal values in one part of the parameters, 0 in the others."""

    def leaf(path, values):
        return rng.normal(size=values.shape) * (tuple(key.key for key in path)[: len(part)] == part)

    return jax.tree_util.tree_map_with_path(leaf, params)


@pytest.mark.parametrize(
    "case",
    [Case(MODELS[0], True, "token", True, **UNEVEN), Case(MODELS[1], False, "sequence", False, **UNEVEN)],
    ids=["one tower, token marginal", "two towers, sequence marginal, no null block"],
)
def test_gradient_in_the_parameters(case):
    """Along random directions within every part, against finite differences of the definition."""
    params, batch, rng = case.params(), case.batch(), np.random.default_rng(7)
    queries = slow_realm.from_arrays(batch)
    with jax.enable_x64(True):
        in_params = jax.grad(lambda params: realm_loss(case.config, params, batch)[0])
        gradient = jax.device_get(in_params(jax.tree.map(jnp.asarray, params)))

    def loss_along(direction, step):
        moved = jax.tree.map(lambda x, d: x + step * d, params, direction)
        return slow_realm.objective(queries, moved, settings_of(case.config))["loss"][0]

    for part in [part for part in parts(params) for _ in range(2)]:
        direction = random_direction(rng, params, part)
        ours = sum(map(np.vdot, jax.tree.leaves(gradient), jax.tree.leaves(direction)))
        assert abs(ours) > 1e-3, part
        expected = central_difference(functools.partial(loss_along, direction), 0.0)
        assert ours == pytest.approx(expected, rel=1e-5), part


@pytest.mark.slow
def test_micro_batches_and_chunks_give_the_definitions_loss_and_gradient():
    """`parallel.gradients` of one query at a time, which reads two candidates at a time, beside the whole batch."""
    case = Case(MODELS[1], False, "token", False, **UNEVEN)
    config, params, whole = case.config, case.params(), case.batch()
    batch = dataclasses.replace(whole, mask_slots=mask_slots(whole.mask_weights, BATCH, MASKS))
    chunked = dataclasses.replace(config, pretrain=dataclasses.replace(config.pretrain, micro_candidates=2))

    def step(loss_config, params, batch, parts):
        def loss(params, batch, rng):
            del rng
            return pretrain_task.realm_loss(in_double(loss_config), params, batch, None)

        def on_an_axis(batch):
            return parallel.gradients(loss, params, batch, jax.random.key(0), parts)

        result = jax.vmap(on_an_axis, axis_name=parallel.AXIS)(jax.tree.map(lambda x: x[None], batch))
        return jax.tree.map(lambda x: x[0], result)

    with jax.enable_x64(True):
        on_device = jax.tree.map(jnp.asarray, params)
        gradient, metrics = jax.device_get(step(chunked, on_device, batch, BATCH))
        expected, _ = jax.device_get(step(config, on_device, whole, 1))
    defined = slow_realm.objective(slow_realm.from_arrays(whole), params, settings_of(config))
    for name, (value, number) in defined.items():
        assert metrics[name] == (pytest.approx(value, rel=ERROR, abs=ERROR), number), name
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12), gradient, expected)


def examples_by_text(corpus) -> list:
    """(block, sentence before a span, span, sentence after it) of every salient span, as strings."""
    found = []
    for index in range(corpus.num_blocks):
        text, sentences = corpus.block(index).text.encode(), corpus.sentences(index)
        for span in corpus.spans(index):
            sentence = sentences[span["sentence"]]
            cuts = [sentence["byte_start"], span["byte_start"], span["byte_limit"], sentence["byte_limit"]]
            found.append((index, *(text[start:limit].decode() for start, limit in itertools.pairwise(cuts))))
    return found


def test_a_real_batch_is_what_its_texts_say(tiny_run):
    """What is hidden, predicted, retrieved and read is made again from the corpus's strings, and the loss with it."""
    config, data = tiny_run.config, open_prepared(tiny_run)
    corpus, rng = data.knowledge, np.random.default_rng(3)
    settings = dataclasses.replace(config.pretrain, sampling="span")  # an example is one row
    sentences = MaskedSentences(data.text, data.special, settings, config.corpus.heldout_fraction)
    numbers = rng.choice(len(sentences), 8, replace=False)
    masked = stack([sentences.example(number, rng) for number in numbers])
    found = rng.choice(corpus.num_blocks, (8, settings.num_candidates), replace=False)
    found[::2, 1] = masked.source_block[::2]  # to be banned
    found[::4, 3] = -1
    candidates = drop_source(found, masked.source_hash, corpus)[:, : settings.num_candidates - 1]
    batch = with_candidates(masked, candidates, corpus, 1)

    def pieces(text):
        return data.tokenizer.encode(text, add_special_tokens=False).ids

    rules = {name: data.tokenizer.token_to_id(f"[{name.upper()}]") for name in ("cls", "sep", "mask")}
    rules |= {"query_len": settings.query_len_tokens, "block_len": config.corpus.block_len_tokens}
    rules |= {"max_masks": settings.max_masks}
    examples, queries = examples_by_text(data.text), []
    for number, proposed in zip(numbers, found, strict=True):
        own, *sentence = examples[sentences.rows[number]]
        kept = [corpus.block(block) for block in proposed if block not in (own, -1)][: settings.num_candidates - 1]
        blocks = {place: (pieces(block.title), pieces(block.text)) for place, block in enumerate(kept, 1)}
        queries.append(slow_realm.from_wordpieces(*map(pieces, sentence), blocks, **rules))
    assert {len(query.candidates) for query in queries} == {3, 4}
    assert {len(query.masked) for query in queries} == {1, 2}
    assert slow_realm.from_arrays(batch) == queries
    check(config, random_params(config.model, rng, 0.3), batch, queries)
