"""Numbers of parameters, against the shapes that the models make."""

import dataclasses
import math

import jax
import pytest

from realm_jax.config import Config, ModelConfig
from realm_jax.experiments import base_wikipedia
from realm_jax.models.shapes import shapes
from realm_jax.plan import parameters

TINY = ModelConfig(
    vocab_size=99, hidden_size=8, num_layers=3, num_heads=2, intermediate_size=20, max_positions=31, projection_dim=5
)
MODELS = [TINY, dataclasses.replace(TINY, shared_tower=False, pooling="mean", span_hidden_size=6)]


def size(tree) -> int:
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tree))


@pytest.mark.parametrize("model", MODELS, ids=["shared", "two towers"])
def test_counts_are_those_of_the_models(model):
    config = Config(model=model)
    assert parameters.of_phase(config, "ict") == {"embedder": size(shapes("embedder", model))}
    both = {part: size(shapes(part, model)) for part in ("embedder", "encoder")}
    assert parameters.of_phase(config, "pretrain") == both
    layers = {name: part for name, part in shapes("encoder", model)["bert"].items() if name.startswith("layer_")}
    assert len(layers) == 3 and parameters.of_layers(model) == size(layers)


def test_fine_tuning_has_two_towers_and_moves_those_that_it_trains():
    tower, reader = size(shapes("embedder", TINY)), size(shapes("reader", TINY))
    for trained, towers in {"none": 0, "query": 1, "both": 2}.items():
        config = Config(model=TINY, finetune=dataclasses.replace(Config().finetune, train_retriever=trained))
        assert parameters.of_phase(config, "finetune") == {"embedder": 2 * tower, "reader": reader}
        assert parameters.trained(config, "finetune") == reader + towers * tower


def test_a_frozen_retriever_is_not_moved():
    config = Config(model=TINY, pretrain=dataclasses.replace(Config().pretrain, train_retriever=False))
    assert parameters.trained(config, "pretrain") == size(shapes("encoder", TINY))


def test_the_papers_model_has_its_number():
    assert sum(parameters.of_phase(base_wikipedia.get_config(), "pretrain").values()) == 219_095_226
