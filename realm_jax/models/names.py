"""Names of the parameters: ours, Hugging Face's and TensorFlow's, in one table for every direction.

A parameter of ours is a path in the tree of its part (`embedder` tower, `encoder` or `reader`). Hugging Face's names
are those of `transformers`' REALM classes; TensorFlow's those of Google's checkpoints, without the prefixes that wrap a
BERT (`bert/`) and its heads there. Torch keeps a dense kernel as [out, in], TensorFlow and we as [in, out].
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from flax import traverse_util
from jaxtyping import Shaped

Part = Literal["embedder", "encoder", "reader"]
Kind = Literal["dense", "norm", "embedding", "bias"]

# Module of ours, of Hugging Face, of TensorFlow; {} is the layer.
_Module = tuple[str, str, str, Kind]
_EMBEDDINGS: list[_Module] = [
    ("word", "word_embeddings", "word_embeddings", "embedding"),
    ("position", "position_embeddings", "position_embeddings", "embedding"),
    ("type", "token_type_embeddings", "token_type_embeddings", "embedding"),
    ("norm", "LayerNorm", "LayerNorm", "norm"),
]
_LAYER: list[_Module] = [
    ("attention.query", "attention.self.query", "attention/self/query", "dense"),
    ("attention.key", "attention.self.key", "attention/self/key", "dense"),
    ("attention.value", "attention.self.value", "attention/self/value", "dense"),
    ("attention.output", "attention.output.dense", "attention/output/dense", "dense"),
    ("attention_norm", "attention.output.LayerNorm", "attention/output/LayerNorm", "norm"),
    ("intermediate", "intermediate.dense", "intermediate/dense", "dense"),
    ("output", "output.dense", "output/dense", "dense"),
    ("output_norm", "output.LayerNorm", "output/LayerNorm", "norm"),
]
_POOLER: _Module = ("pooler", "realm.pooler.dense", "bert/pooler/dense", "dense")
_HEADS: dict[Part, list[_Module]] = {
    "embedder": [
        ("projection", "cls.dense", "dense", "dense"),
        ("projection_norm", "cls.LayerNorm", "LayerNorm", "norm"),
    ],
    "encoder": [
        ("mlm.transform", "cls.predictions.transform.dense", "cls/predictions/transform/dense", "dense"),
        ("mlm.norm", "cls.predictions.transform.LayerNorm", "cls/predictions/transform/LayerNorm", "norm"),
        ("mlm", "cls.predictions", "cls/predictions/output", "bias"),
    ],
    "reader": [
        ("span.hidden", "qa_outputs.dense_intermediate", "dense", "dense"),
        ("span.norm", "qa_outputs.layer_normalization", "layer_normalization", "norm"),
        ("span.score", "qa_outputs.dense_output", "dense_1", "dense"),
    ],
}
# What follows the module: ours, Hugging Face's, TensorFlow's.
_LEAVES: dict[Kind, list[tuple[str, str, str]]] = {
    "dense": [(".kernel", ".weight", "/kernel"), (".bias", ".bias", "/bias")],
    "norm": [(".scale", ".weight", "/gamma"), (".bias", ".bias", "/beta")],
    "embedding": [(".embedding", ".weight", "")],
    "bias": [(".bias", ".bias", "_bias")],
}


@dataclass(frozen=True)
class Name:
    """One parameter's names."""

    ours: str
    """Dotted path in the part's tree."""
    torch: str
    tf: str
    is_kernel: bool
    """Torch's array is our transpose."""


def names(part: Part, num_layers: int, *, pooler: bool = False) -> list[Name]:
    """Every parameter of a part, in the order of the forward pass.

    Args:
        pooler: whether the embedder projects BERT's pooled [CLS], and so has the pooler's parameters.
    """
    modules = _within(("bert.embeddings.", "realm.embeddings.", "bert/embeddings/"), _EMBEDDINGS)
    for i in range(num_layers):
        modules += _within((f"bert.layer_{i}.", f"realm.encoder.layer.{i}.", f"bert/encoder/layer_{i}/"), _LAYER)
    modules += [*([_POOLER] if pooler and part == "embedder" else []), *_HEADS[part]]
    return [
        Name(ours + our_leaf, torch + torch_leaf, tf + tf_leaf, kind == "dense" and our_leaf == ".kernel")
        for ours, torch, tf, kind in modules
        for our_leaf, torch_leaf, tf_leaf in _LEAVES[kind]
    ]


def _within(prefixes: tuple[str, str, str], modules: list[_Module]) -> list[_Module]:
    ours, torch, tf = prefixes
    return [(ours + a, torch + b, tf + c, kind) for a, b, c, kind in modules]


def flatten(tree: Mapping[str, Any]) -> dict[str, Any]:
    """Leaves of a part's tree by dotted path."""
    return traverse_util.flatten_dict(tree, sep=".")


def unflatten(leaves: Mapping[str, Any]) -> dict:
    """The tree whose leaves by dotted path are given."""
    return traverse_util.unflatten_dict(leaves, sep=".")


def usual(name: str) -> str:
    """The name that a tensor of a Hugging Face BERT would have in the REALM classes.

    The prefix `bert.`, or none, becomes `realm.`; an old LayerNorm's gamma and beta become weight and bias.
    """
    stem, dot, leaf = name.rpartition(".")
    name = f"{stem}{dot}{ {'gamma': 'weight', 'beta': 'bias'}.get(leaf, leaf) }"
    if name.startswith(("cls.", "realm.", "qa_outputs.")):
        return name
    return f"realm.{name.removeprefix('bert.')}"


def from_torch(name: Name, array: Shaped[np.ndarray, "*shape"]) -> Shaped[np.ndarray, "*turned"]:
    """Torch's array in our layout, or ours in torch's: kernels are turned from [out, in] to [in, out]."""
    return array.T if name.is_kernel else array
