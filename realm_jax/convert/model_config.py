"""Translates a checkpoint's config.json to our `ModelConfig`, and back."""

import dataclasses

from realm_jax.config import ConfigError, ModelConfig
from realm_jax.model_folder.bert_config import FIXED, GELUS, HEADS, SHAPE, shape_of
from realm_jax.model_folder.small_files import shown
from realm_jax.models.parts import Model

_DROPOUT = "hidden_dropout_prob"
HEAD_SIZE = 64  # every published BERT has heads of this size, and a TensorFlow checkpoint does not name it


def model_config(models: list[Model], base: ModelConfig) -> tuple[ModelConfig, list[str]]:
    """The shape that all models share, and notices on what was assumed or corrected.

    Args:
        base: supplies what no checkpoint says: the compute type, the pooling of a plain BERT, …

    Raises:
        ConfigError: a config.json lacks a key or asks for something that REALM's models do not have, or two disagree.
    """
    values: dict = {}
    origin: dict[str, str] = {}
    notices: list[str] = []
    for model in models:
        found, notes = _one(model)
        notices += [note for note in notes if note not in notices]
        for key, value in found.items():
            if values.setdefault(key, value) != value:
                raise ConfigError(
                    f"{model.source.spec} has model.{key}={value}, {origin[key]} has {values[key]}: convert "
                    "checkpoints of one shape"
                )
            origin.setdefault(key, model.source.spec)
    if any(model.kind == "embedder" for model in models):
        values["pooling"] = "cls"
    config = dataclasses.replace(base, **values)
    try:
        config.check()
    except ConfigError as error:
        raise ConfigError(f"{' and '.join(dict.fromkeys(origin.values()))}: {error}: correct config.json") from error
    return config, notices


def hugging_face_config(config: ModelConfig, architecture: str, max_span_width: int) -> dict:
    """The config.json of a REALM class of `transformers`."""
    theirs = {key: getattr(config, ours) for key, ours in {**SHAPE, _DROPOUT: "dropout", **HEADS}.items()}
    gelu = next(name for name, ours in GELUS.items() if ours == config.gelu)
    return {
        "model_type": "realm",
        "architectures": [architecture],
        **theirs,
        **FIXED,
        "hidden_act": gelu,
        "attention_probs_dropout_prob": config.dropout,
        "initializer_range": 0.02,
        "max_span_width": max_span_width,
        "pad_token_id": 0,
        "dtype": "float32",
    }


def _one(model: Model) -> tuple[dict, list[str]]:
    theirs, file = model.source.config, model.source.config_file
    if theirs is None:
        return _from_shapes(model)
    found = shape_of(theirs)
    head = {"embedder": "retriever_proj_size", "reader": "span_hidden_size"}.get(model.kind)
    if head is not None:
        if theirs.get(head) is None:
            raise ConfigError(f"{file}: lacks {head!r}: add it, as the model was trained")
        found[HEADS[head]] = theirs[head]
    notices = []
    if theirs.get("pad_token_id") not in (0, None):
        notices.append(
            f"{model.source.spec}: config.json has pad_token_id {shown(theirs['pad_token_id'])}, as every published "
            "REALM does; BERT's vocabulary pads with 0, which is used"
        )
    rates = [theirs[name] for name in (_DROPOUT, "attention_probs_dropout_prob") if theirs.get(name) is not None]
    if not all(isinstance(rate, int | float) and 0 <= rate < 1 for rate in rates):
        raise ConfigError(f"{file}: has the dropout rates {shown(rates)}: correct them to numbers in [0, 1)")
    if rates:
        found["dropout"] = rates[0]
    if len(set(rates)) > 1:
        notices.append(
            f"{model.source.spec}: config.json has two dropout rates, {rates}: further training uses the first"
        )
    return found, notices


def _from_shapes(model: Model) -> tuple[dict, list[str]]:
    is_tf = model.source.is_tf

    def shape(torch: str, tf: str) -> tuple[int, ...]:
        name = tf if is_tf else torch
        if name not in model.tensors:
            raise ConfigError(f"{model.source.spec}: lacks {name}, and has no config.json: download all of it")
        return model.tensors[name].shape

    vocab_size, hidden_size = shape("realm.embeddings.word_embeddings.weight", "bert/embeddings/word_embeddings")
    positions = shape("realm.embeddings.position_embeddings.weight", "bert/embeddings/position_embeddings")
    bias = shape("realm.encoder.layer.0.intermediate.dense.bias", "bert/encoder/layer_0/intermediate/dense/bias")
    found = {
        "vocab_size": vocab_size,
        "hidden_size": hidden_size,
        "num_layers": model.num_layers,
        "num_heads": max(1, hidden_size // HEAD_SIZE),
        "intermediate_size": bias[0],
        "max_positions": positions[0],
        "gelu": "tanh",
    }
    if model.kind == "embedder":
        found["projection_dim"] = shape("cls.dense.bias", "dense/bias")[0]
    if model.kind == "reader":
        found["span_hidden_size"] = shape("qa_outputs.layer_normalization.bias", "layer_normalization/beta")[0]
    notice = (
        f"{model.source.spec}: has no config.json: taken from the shapes, with heads of {HEAD_SIZE} "
        f"(model.num_heads={found['num_heads']}) and the tanh GELU of Google's BERT"
    )
    return found, [notice]
