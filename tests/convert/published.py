"""Small random checkpoints named, shaped and laid out as the published ones are."""

import json

import numpy as np
from safetensors.numpy import save_file

VOCAB, HIDDEN, LAYERS, WIDE, POSITIONS, PROJECTION, SPAN = 700, 16, 2, 24, 96, 8, 12
CONFIG = {
    "model_type": "realm",
    "vocab_size": VOCAB,
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 2,
    "intermediate_size": WIDE,
    "max_position_embeddings": POSITIONS,
    "hidden_act": "gelu_new",
    "hidden_dropout_prob": 0.1,
    "layer_norm_eps": 1e-12,
    "type_vocab_size": 2,
    "retriever_proj_size": PROJECTION,
    "span_hidden_size": SPAN,
    "reader_layer_norm_eps": 1e-3,
    "pad_token_id": 1,
}


def dense(inputs: int, outputs: int) -> dict:
    return {"weight": (outputs, inputs), "bias": (outputs,)}


def norm(size: int) -> dict:
    return {"weight": (size,), "bias": (size,)}


def bert(prefix: str) -> dict:
    """Shapes of a BERT with its pooler, in torch's layout."""
    modules = {
        "embeddings.word_embeddings": {"weight": (VOCAB, HIDDEN)},
        "embeddings.position_embeddings": {"weight": (POSITIONS, HIDDEN)},
        "embeddings.token_type_embeddings": {"weight": (2, HIDDEN)},
        "embeddings.LayerNorm": norm(HIDDEN),
        "pooler.dense": dense(HIDDEN, HIDDEN),
    }
    for i in range(LAYERS):
        layer = f"encoder.layer.{i}"
        for name in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            modules[f"{layer}.{name}"] = dense(HIDDEN, HIDDEN)
        modules[f"{layer}.intermediate.dense"] = dense(HIDDEN, WIDE)
        modules[f"{layer}.output.dense"] = dense(WIDE, HIDDEN)
        modules |= {f"{layer}.{name}": norm(HIDDEN) for name in ("attention.output.LayerNorm", "output.LayerNorm")}
    return flat(modules, prefix)


def flat(modules: dict, prefix: str = "") -> dict:
    return {f"{prefix}{name}.{leaf}": shape for name, leaves in modules.items() for leaf, shape in leaves.items()}


MLM = {
    "cls.predictions": {"bias": (VOCAB,)},
    "cls.predictions.transform.dense": dense(HIDDEN, HIDDEN),
    "cls.predictions.transform.LayerNorm": norm(HIDDEN),
}
PROJECT = {"cls.dense": dense(HIDDEN, PROJECTION), "cls.LayerNorm": norm(PROJECTION)}
SPANS = {
    "qa_outputs.dense_intermediate": dense(HIDDEN, 2 * SPAN),
    "qa_outputs.layer_normalization": norm(SPAN),
    "qa_outputs.dense_output": dense(SPAN, 1),
}


def values(shapes: dict, seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {name: rng.normal(0, 0.3, shape).astype(np.float32) for name, shape in shapes.items()}


def embedder(seed: int = 1) -> dict[str, np.ndarray]:
    """RealmEmbedder, with the MLM head that it never uses and a buffer."""
    tensors = values(bert("realm.") | flat(PROJECT) | flat(MLM), seed)
    return tensors | {"realm.embeddings.position_ids": np.arange(POSITIONS)[None]}


def encoder(seed: int = 2) -> dict[str, np.ndarray]:
    """RealmKnowledgeAugEncoder, with its tied decoder."""
    tensors = values(bert("realm.") | flat(MLM), seed)
    tied = {"weight": tensors["realm.embeddings.word_embeddings.weight"], "bias": tensors["cls.predictions.bias"]}
    return tensors | {f"cls.predictions.decoder.{leaf}": x.copy() for leaf, x in tied.items()}


def reader(seed: int = 3) -> dict[str, np.ndarray]:
    """RealmReader."""
    return values(bert("realm.") | flat(SPANS) | flat(MLM), seed)


def plain_bert(seed: int = 4) -> dict[str, np.ndarray]:
    """BertForPreTraining."""
    return values(bert("bert.") | flat(MLM) | flat({"cls.seq_relationship": dense(HIDDEN, 2)}), seed)


def under(prefix: str, tensors: dict) -> dict:
    return {prefix + name: x for name, x in tensors.items()}


def openqa(num_blocks: int, seed: int = 5) -> dict[str, np.ndarray]:
    """RealmForOpenQA: a fine-tuned query tower, a reader and the embeddings of the blocks."""
    emb = np.random.default_rng(seed).normal(size=(num_blocks, PROJECTION)).astype(np.float32)
    return under("embedder.", embedder(seed)) | under("reader.", reader(seed + 1)) | {"block_emb": emb}


def to_tf(tensors: dict[str, np.ndarray], bert_root: str, head_root: str) -> dict[str, np.ndarray]:
    """The same weights as Google's checkpoints name and store them, with optimizer slots."""
    heads = {
        "cls.dense": "dense",
        "cls.LayerNorm": "LayerNorm",
        "qa_outputs.dense_intermediate": "dense",
        "qa_outputs.layer_normalization": "layer_normalization",
        "qa_outputs.dense_output": "dense_1",
    }
    variables = {"global_step": np.int64(7)}
    for name, x in tensors.items():
        module, leaf = name.rsplit(".", 1)
        if leaf == "position_ids" or ".decoder" in name:
            continue
        is_norm = module.lower().endswith(("layernorm", "layer_normalization"))
        leaf = {"weight": "gamma" if is_norm else "kernel", "bias": "beta" if is_norm else "bias"}[leaf]
        if module in heads:
            path = head_root + heads[module]
        elif module == "cls.predictions":
            path, leaf = bert_root + "cls/predictions", "output_bias"
        else:
            root = bert_root + "bert/" if module.startswith("realm.") else bert_root
            path = root + module.removeprefix("realm.").replace("layer.", "layer_").replace(".", "/")
        if module.endswith("_embeddings"):
            variables[path] = x
        else:
            variables[f"{path}/{leaf}"] = x.T if leaf == "kernel" else x
        variables |= {f"{path}/{leaf}/{slot}": np.zeros(2, np.float32) for slot in ("adam_m", "adam_v")}
    return variables


def write(folder, tensors: dict, config: dict | None = None, tokenizer=None):
    """A folder with model.safetensors, config.json and perhaps tokenizer.json."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG if config is None else config))
    if tokenizer is not None:
        tokenizer.save(str(folder / "tokenizer.json"))
    return folder
