"""First weights from synthetic checkpoints in every dialect, and what is wrong with bad ones."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from safetensors.numpy import save_file

from realm_jax.config import ConfigError, ModelConfig
from realm_jax.models import pretrained

CONFIG = ModelConfig(
    vocab_size=11,
    hidden_size=8,
    num_layers=2,
    num_heads=2,
    intermediate_size=12,
    max_positions=6,
    projection_dim=4,
    pooling="cls",
)
THEIR_CONFIG = {
    "vocab_size": 11,
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 6,
    "hidden_act": "gelu_new",
}
HEAD = ("cls.", "bert.pooler.")


def bert_tensors() -> dict[str, np.ndarray]:
    """A whole BERT with pooler and MLM head, named and shaped as published ones are: dense weights [out, in]."""
    shapes = {
        "bert.embeddings.word_embeddings.weight": (11, 8),
        "bert.embeddings.position_embeddings.weight": (6, 8),
        "bert.embeddings.token_type_embeddings.weight": (2, 8),
        "bert.pooler.dense.weight": (8, 8),
        "bert.pooler.dense.bias": (8,),
        "cls.predictions.bias": (11,),
        "cls.predictions.transform.dense.weight": (8, 8),
        "cls.predictions.transform.dense.bias": (8,),
        "cls.predictions.decoder.weight": (11, 8),
        "cls.seq_relationship.weight": (2, 8),
    }
    norms = ["bert.embeddings.LayerNorm", "cls.predictions.transform.LayerNorm"]
    for i in (0, 1):
        layer = f"bert.encoder.layer.{i}"
        for name in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            shapes |= {f"{layer}.{name}.weight": (8, 8), f"{layer}.{name}.bias": (8,)}
        shapes |= {f"{layer}.intermediate.dense.weight": (12, 8), f"{layer}.intermediate.dense.bias": (12,)}
        shapes |= {f"{layer}.output.dense.weight": (8, 12), f"{layer}.output.dense.bias": (8,)}
        norms += [f"{layer}.attention.output.LayerNorm", f"{layer}.output.LayerNorm"]
    shapes |= {f"{norm}.{leaf}": (8,) for norm in norms for leaf in ("weight", "bias")}
    rng = np.random.default_rng(0)
    tensors = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    return tensors | {"cls.predictions.decoder.weight": tensors["bert.embeddings.word_embeddings.weight"].copy()}


def old_norms(name: str) -> str:
    """The older dialect: LayerNorm.gamma and LayerNorm.beta."""
    return name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")


DIALECTS = {
    "weight and bias": lambda name: name,
    "gamma and beta": old_norms,
    "no prefix": lambda name: name.removeprefix("bert."),
    "no prefix, gamma and beta": lambda name: old_norms(name).removeprefix("bert."),
}


@pytest.fixture
def checkpoint(tmp_path):
    """Makes a folder of tensors, with names as a dialect spells them: `checkpoint(tensors, **config changes)`."""

    def make(tensors, spell=DIALECTS["weight and bias"], **changes):
        (tmp_path / "config.json").write_text(json.dumps({**THEIR_CONFIG, **changes}))
        save_file({spell(name): x for name, x in tensors.items()}, tmp_path / "model.safetensors")
        return tmp_path

    return make


def check_bert(bert, theirs):
    """Every leaf of our tree is the tensor of theirs that it should be."""
    at = {"word": "word_embeddings", "position": "position_embeddings", "type": "token_type_embeddings"}
    for ours, name in at.items():
        np.testing.assert_array_equal(bert["embeddings"][ours]["embedding"], theirs[f"bert.embeddings.{name}.weight"])
    checked = 3 + check_module(bert["embeddings"]["norm"], theirs, "bert.embeddings.LayerNorm")
    for i in (0, 1):
        ours, layer = bert[f"layer_{i}"], f"bert.encoder.layer.{i}"
        for name in ("query", "key", "value"):
            checked += check_module(ours["attention"][name], theirs, f"{layer}.attention.self.{name}")
        checked += check_module(ours["attention"]["output"], theirs, f"{layer}.attention.output.dense")
        checked += check_module(ours["attention_norm"], theirs, f"{layer}.attention.output.LayerNorm")
        checked += check_module(ours["intermediate"], theirs, f"{layer}.intermediate.dense")
        checked += check_module(ours["output"], theirs, f"{layer}.output.dense")
        checked += check_module(ours["output_norm"], theirs, f"{layer}.output.LayerNorm")
    assert checked == len(jax.tree.leaves(bert))


def check_module(ours, theirs, name) -> int:
    weight = ours["kernel"].T if "kernel" in ours else ours["scale"]
    np.testing.assert_array_equal(weight, theirs[f"{name}.weight"])
    np.testing.assert_array_equal(ours["bias"], theirs[f"{name}.bias"])
    return 2


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("shared", [True, False])
def test_whole_checkpoint_fills_both_models(checkpoint, dialect, shared):
    config, tensors = dataclasses.replace(CONFIG, shared_tower=shared), bert_tensors()
    params, missing = pretrained.init_params(config, checkpoint(tensors, DIALECTS[dialect]), 0)
    sides = ["shared"] if shared else ["query", "block"]
    assert sorted(params["embedder"]) == sorted(sides)
    for side in sides:
        check_bert(params["embedder"][side]["bert"], tensors)
        check_module(params["embedder"][side]["pooler"], tensors, "bert.pooler.dense")
    check_bert(params["encoder"]["bert"], tensors)
    check_module(params["encoder"]["mlm"]["transform"], tensors, "cls.predictions.transform.dense")
    check_module(params["encoder"]["mlm"]["norm"], tensors, "cls.predictions.transform.LayerNorm")
    np.testing.assert_array_equal(params["encoder"]["mlm"]["bias"], tensors["cls.predictions.bias"])
    leaves = ("projection.kernel", "projection.bias", "projection_norm.scale", "projection_norm.bias")
    assert sorted(missing) == sorted(f"embedder.{side}.{leaf}" for side in sides for leaf in leaves)


def test_missing_heads_are_reported_and_stay_random(checkpoint):
    tensors = {name: x for name, x in bert_tensors().items() if not name.startswith(HEAD)}
    params, missing = pretrained.init_params(CONFIG, checkpoint(tensors), 5)
    random, nothing = pretrained.init_params(CONFIG, None, 5)
    assert nothing == []
    heads = ["pooler", "projection", "projection_norm", "mlm.transform", "mlm.norm", "mlm"]
    modules = [name.split(".", 2 if name.startswith("embedder") else 1)[-1].rpartition(".")[0] for name in missing]
    assert sorted(set(modules)) == sorted(heads) and len(missing) == 2 * 5 + 1
    assert pretrained.lacks(missing) == "has no projection, no pooler, no MLM head: they start at random"
    jax.tree.map(np.testing.assert_array_equal, params["encoder"]["mlm"], random["encoder"]["mlm"])
    for name in ("pooler", "projection", "projection_norm"):
        jax.tree.map(
            np.testing.assert_array_equal, params["embedder"]["shared"][name], random["embedder"]["shared"][name]
        )
    check_bert(params["encoder"]["bert"], tensors)


def test_mean_pooling_wants_no_pooler(checkpoint):
    tensors = {name: x for name, x in bert_tensors().items() if "pooler" not in name}
    config = dataclasses.replace(CONFIG, pooling="mean")
    missing = pretrained.init_params(config, checkpoint(tensors), 0)[1]
    assert len(missing) == 4 and all(name.startswith("embedder.shared.projection") for name in missing)
    assert pretrained.lacks(missing) == "has no projection: it starts at random"


def test_half_precision_is_read_as_float32(checkpoint):
    tensors = {name: x.astype(np.float16) for name, x in bert_tensors().items()}
    params, _ = pretrained.init_params(CONFIG, checkpoint(tensors), 0)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(np.float32)}


@pytest.mark.parametrize("value", [np.nan, 1e300])
def test_numbers_that_are_none_are_named(checkpoint, value):
    tensors = {name: x.astype(np.float64) for name, x in bert_tensors().items()}
    name = next(name for name in tensors if "word_embeddings" in name)
    tensors[name][3, 1] = value
    with np.errstate(over="ignore"), pytest.raises(ConfigError, match=f"{name} holds NaN or infinite numbers"):
        pretrained.init_params(CONFIG, checkpoint(tensors), 0)


def test_random_parameters_follow_the_seed():
    first, again, other = (pretrained.init_params(CONFIG, None, seed)[0] for seed in (1, 1, 2))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    word = [p["encoder"]["bert"]["embeddings"]["word"]["embedding"] for p in (first, other)]
    assert not np.array_equal(*word)
    assert not np.array_equal(word[0], first["embedder"]["shared"]["bert"]["embeddings"]["word"]["embedding"])


@pytest.mark.parametrize(
    ("changes", "flags"),
    [
        ({"hidden_size": 16}, ["--model.hidden_size=16"]),
        ({"num_hidden_layers": 3, "vocab_size": 99}, ["--model.num_layers=3", "--model.vocab_size=99"]),
        ({"max_position_embeddings": 512}, ["--model.max_positions=512"]),
        ({"hidden_act": "gelu"}, ["--model.gelu=erf"]),
        ({"num_attention_heads": 4, "intermediate_size": 32}, ["--model.num_heads=4", "--model.intermediate_size=32"]),
    ],
)
def test_another_shape_names_the_flags(checkpoint, changes, flags):
    with pytest.raises(ConfigError) as error:
        pretrained.init_params(CONFIG, checkpoint(bert_tensors(), **changes), 0)
    assert all(flag in str(error.value) for flag in flags)
    assert str(error.value).count("--model.") == len(flags)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name",
    [
        "bert.embeddings.word_embeddings.weight",
        "bert.encoder.layer.1.output.LayerNorm.bias",
        "bert.pooler.dense.bias",
        "cls.predictions.transform.dense.bias",
    ],
)
def test_missing_tensor_of_a_present_module(checkpoint, name):
    tensors = bert_tensors()
    del tensors[name]
    with pytest.raises(ConfigError, match=f"the bert lacks {name.replace('bert.', 'realm.')}|holds tensors of no BERT"):
        pretrained.init_params(CONFIG, checkpoint(tensors), 0)


def test_tensor_of_another_shape_than_config_json_says(checkpoint):
    tensors = bert_tensors()
    tensors["bert.encoder.layer.0.intermediate.dense.weight"] = np.zeros((13, 8), np.float32)
    with pytest.raises(ConfigError, match="shape"):
        pretrained.init_params(CONFIG, checkpoint(tensors), 0)


def test_folder_that_holds_no_bert(tmp_path):
    with pytest.raises(ConfigError, match="holds no weights"):
        pretrained.init_params(CONFIG, tmp_path, 0)
    save_file(bert_tensors(), tmp_path / "model.safetensors")
    with pytest.raises(ConfigError, match="no config.json"):
        pretrained.init_params(CONFIG, tmp_path, 0)
    (tmp_path / "config.json").write_text('{"model_type": "gpt"}')
    with pytest.raises(ConfigError, match="config.json: is of a model of the type 'gpt', not bert or realm"):
        pretrained.init_params(CONFIG, tmp_path, 0)
