"""A small random BERT in the layout of a hub's folder, for tests of what reads one."""

import json
import pathlib
import string
from collections.abc import Sequence

import numpy as np
from safetensors.numpy import save_file

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
HIDDEN, INNER, POSITIONS = 16, 24, 96
INDEX = "model.safetensors.index.json"


def vocabulary(words: Sequence[str] = ()) -> list[str]:
    """Special tokens, small letters and digits at the beginning and inside of words, and more."""
    letters = string.ascii_lowercase + string.digits
    return list(dict.fromkeys([*SPECIALS, *letters, *string.punctuation, *(f"##{c}" for c in letters), *words]))


def config(rows: int, **changes) -> dict:
    """A config.json as `transformers` writes one."""
    return {
        "model_type": "bert",
        "architectures": ["BertForMaskedLM"],
        "vocab_size": rows,
        "hidden_size": HIDDEN,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
        "intermediate_size": INNER,
        "max_position_embeddings": POSITIONS,
        "type_vocab_size": 2,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        "hidden_dropout_prob": 0.1,
        "attention_probs_dropout_prob": 0.1,
        "pad_token_id": 0,
        **changes,
    }


def tensors(rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    """BertForMaskedLM with a pooler; dense weights are [out, in]."""
    layer, shapes = "bert.encoder.layer.0", {}
    dense = {f"{layer}.attention.self.{name}": (HIDDEN, HIDDEN) for name in ("query", "key", "value")}
    dense |= {f"{layer}.attention.output.dense": (HIDDEN, HIDDEN), f"{layer}.intermediate.dense": (INNER, HIDDEN)}
    dense |= {f"{layer}.output.dense": (HIDDEN, INNER), "bert.pooler.dense": (HIDDEN, HIDDEN)}
    dense |= {"cls.predictions.transform.dense": (HIDDEN, HIDDEN)}
    for name, shape in dense.items():
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    norms = ["bert.embeddings", f"{layer}.attention.output", f"{layer}.output", "cls.predictions.transform"]
    shapes |= {f"{name}.LayerNorm.{leaf}": (HIDDEN,) for name in norms for leaf in ("weight", "bias")}
    for name, size in (("word", rows), ("position", POSITIONS), ("token_type", 2)):
        shapes[f"bert.embeddings.{name}_embeddings.weight"] = (size, HIDDEN)
    shapes["cls.predictions.bias"] = (rows,)
    rng = np.random.default_rng(seed)
    return {name: rng.normal(0, 0.05, shape).astype(np.float32) for name, shape in shapes.items()}


def write(
    folder: pathlib.Path, *, words: Sequence[str] = (), rows: int = 0, seed: int = 0, weights: bool = True, **changes
) -> pathlib.Path:
    """Writes config.json, vocab.txt and model.safetensors; `changes` are of config.json, `rows` of the table."""
    folder.mkdir(parents=True, exist_ok=True)
    pieces = vocabulary(words)
    rows = rows or len(pieces)
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in pieces), encoding="utf-8")
    (folder / "config.json").write_text(json.dumps(config(rows, **changes)))
    if weights:
        save_file(tensors(rows, seed), folder / "model.safetensors")
    return folder


def shard(folder: pathlib.Path, all_tensors: dict[str, np.ndarray]) -> list[pathlib.Path]:
    """Writes the BERT into one file, its head into another, and the index of both."""
    files = [folder / f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    parts = [{n: x for n, x in all_tensors.items() if n.startswith("cls.") == is_head} for is_head in (False, True)]
    for file, part in zip(files, parts, strict=True):
        save_file(part, file)
    index = {"weight_map": {name: file.name for file, part in zip(files, parts, strict=True) for name in part}}
    (folder / INDEX).write_text(json.dumps(index))
    return files
