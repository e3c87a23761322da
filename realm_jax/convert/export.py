"""Writes a workdir's models for other libraries: `transformers`' REALM classes and sentence-transformers."""

import os
import pathlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from safetensors.numpy import save_file
from tokenizers import processors

from realm_jax.config import CONVERTED, ConfigError, ModelConfig
from realm_jax.convert.model_config import hugging_face_config
from realm_jax.data import run_tokenizer
from realm_jax.model_folder import Tensors
from realm_jax.model_folder.wordpiece import effects
from realm_jax.models.names import Part, flatten, from_torch, names
from realm_jax.training import phases
from realm_jax.workdir import Workdir, write_json

_CLASSES = {"embedder": "RealmEmbedder", "encoder": "RealmKnowledgeAugEncoder", "reader": "RealmReader"}
# The LayerNorm of sentence-transformers has an epsilon of 1e-5, REALM's 1e-12. The scale of its input does not change
# what LayerNorm gives, so a larger projection makes the one epsilon as negligible as the other.
_PROJECTION_SCALE = 1024.0
_POOLINGS = {"cls_token": "cls", "mean_tokens": "mean"}  # sentence-transformers' names -> ours


def to_hugging_face(workdir: Workdir, out: pathlib.Path) -> list[str]:
    """Writes `out/{embedder,encoder,reader}`, and `out/scorer` where there are two towers.

    Returns:
        lines that say what was written, and how it is loaded.

    Raises:
        ConfigError: `out` is there already, or the workdir has no weights.
    """
    config, span_width = workdir.config.model, workdir.config.finetune.max_span_width
    params, lines = _last_params(workdir, tuple(_CLASSES)), []
    if config.pooling != "cls" and params.pop("embedder", None):
        lines.append("no embedder: RealmEmbedder cannot pool the mean: pass --to=sentence-transformers for it")
    with _appearing(out) as partial:
        for part, tree in params.items():
            if part == "embedder":
                towers = {side: _torch_tensors("embedder", tower, config) for side, tower in tree.items()}
                tensors = towers["shared"] if "shared" in towers else towers["block"]
                if "query" in towers:
                    both = {f"embedder.{name}": x for name, x in towers["block"].items()}
                    both |= {f"query_embedder.{name}": x for name, x in towers["query"].items()}
                    _write_model(
                        partial / "scorer", both, hugging_face_config(config, "RealmScorer", span_width), workdir
                    )
                    lines.append(
                        f"{out}/scorer: RealmScorer.from_pretrained, with query_embedder=RealmEmbedder(config); "
                        "else it keeps one of the two towers"
                    )
            else:
                tensors = _torch_tensors(part, tree, config)
            _write_model(partial / part, tensors, hugging_face_config(config, _CLASSES[part], span_width), workdir)
            lines.append(f"{out}/{part}: {_CLASSES[part]}.from_pretrained")
    return [*lines, "these classes are in transformers up to 4.57.6, with torch"]


def to_sentence_transformers(workdir: Workdir, out: pathlib.Path) -> list[str]:
    """Writes the embedder of blocks as a sentence-transformers model, and the query tower beside it if it has its own.

    A block is encoded as the pair (title, body), a query as plain text; similarity is the inner product.

    Returns:
        lines that say what was written, and how it is loaded.

    Raises:
        ConfigError: `out` is there already, or the workdir has no weights or no vocabulary.
    """
    if not workdir.tokenizer_file.exists():
        raise ConfigError(f"{workdir.path} has no vocabulary, which the model needs: convert again with --vocab=FILE")
    towers = _last_params(workdir, ("embedder",))["embedder"]
    folders = {"shared": "", "block": "block", "query": "query"}
    with _appearing(out) as partial:
        for side, tower in towers.items():
            _write_sentence_transformer(partial / folders[side], tower, workdir)
    return [f"{out / folders[side]}: SentenceTransformer(...)" for side in towers]


def _last_params(workdir: Workdir, parts: tuple[str, ...]) -> dict[str, dict]:
    """The newest parameters of those parts that the workdir has. Raises ConfigError if it has none of them."""
    has = ("embedder", "encoder")
    if workdir.config.init == CONVERTED:
        has = phases.converted_parts(workdir)
    has = tuple(part for part in parts if part in has)
    if not has:
        raise ConfigError(f"{workdir.path} has no {' or '.join(parts)}: convert again with a SOURCE that holds one")
    params = phases.first_params(workdir, has)
    for phase, trained in {"ict": ("embedder",), "pretrain": ("embedder", "encoder")}.items():
        if workdir.is_done(phase):
            params |= phases.last_params(workdir, phase, tuple(part for part in trained if part in params))
    return params


def _torch_tensors(part: Part, tree: dict, config: ModelConfig) -> Tensors:
    leaves = flatten(tree)
    wanted = names(part, config.num_layers, pooler=config.pooling == "cls")
    return {name.torch: np.ascontiguousarray(from_torch(name, leaves[name.ours])) for name in wanted}


def _write_model(folder: pathlib.Path, tensors: Tensors, config: dict, workdir: Workdir) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    write_json(folder / "config.json", config)
    if workdir.tokenizer_file.exists():
        _write_tokenizer(folder, workdir)


def _write_tokenizer(folder: pathlib.Path, workdir: Workdir) -> None:
    tokenizer = run_tokenizer.load(workdir.tokenizer_file)
    cls, sep = ((token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]"))
    tokenizer.post_processor = processors.BertProcessing(sep, cls)  # ours has none: see `data.assembly`
    tokenizer.save(str(folder / "tokenizer.json"))
    pieces = {token_id: piece for piece, token_id in tokenizer.get_vocab(with_added_tokens=False).items()}
    lines = [pieces.get(token_id, "") for token_id in range(max(pieces) + 1)]  # a line's number is its wordpiece's id
    (folder / "vocab.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    settings = {"tokenizer_class": "BertTokenizer", **effects(tokenizer)}
    settings["model_max_length"] = workdir.config.model.max_positions
    specials = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    write_json(folder / "tokenizer_config.json", settings | specials)


def _write_sentence_transformer(folder: pathlib.Path, tower: dict, workdir: Workdir) -> None:
    config = workdir.config.model
    tensors = _torch_tensors("embedder", tower, config)
    bert = {n.removeprefix("realm."): x for n, x in tensors.items() if n.startswith("realm.")}
    theirs = hugging_face_config(config, "BertModel", workdir.config.finetune.max_span_width) | {"model_type": "bert"}
    for key in ("retriever_proj_size", "span_hidden_size", "max_span_width", "reader_layer_norm_eps"):
        del theirs[key]
    _write_model(folder, bert, theirs, workdir)
    # BERT's pooler comes with its BertModel, but sentence-transformers takes hidden states: it is a layer of its own.
    modules = [("", "Transformer"), ("1_Pooling", "Pooling")]
    mode = {f"pooling_mode_{name}": pooling == config.pooling for name, pooling in _POOLINGS.items()}
    layers = {"1_Pooling": ({"word_embedding_dimension": config.hidden_size, **mode}, {})}
    if config.pooling == "cls":
        modules.append(("2_Dense", "Dense"))
        layers["2_Dense"] = _dense(tensors, "realm.pooler.dense", "activation.Tanh")
    norm = {"norm.weight": tensors["cls.LayerNorm.weight"], "norm.bias": tensors["cls.LayerNorm.bias"]}
    layers["3_Dense"] = _dense(tensors, "cls.dense", "linear.Identity", scale=_PROJECTION_SCALE)
    layers["4_LayerNorm"] = ({"dimension": config.projection_dim}, norm)
    modules += [("3_Dense", "Dense"), ("4_LayerNorm", "LayerNorm")]
    for path, (settings, weights) in layers.items():
        (folder / path).mkdir()
        write_json(folder / path / "config.json", settings)
        if weights:
            save_file(weights, folder / path / "model.safetensors", {"format": "pt"})
    listed = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(modules)
    ]
    write_json(folder / "modules.json", listed)
    write_json(folder / "sentence_bert_config.json", {"max_seq_length": config.max_positions, "do_lower_case": False})
    write_json(folder / "config_sentence_transformers.json", {"similarity_fn_name": "dot"})


def _dense(tensors: Tensors, name: str, activation: str, scale: float = 1.0) -> tuple[dict, Tensors]:
    """Settings and weights of sentence-transformers' Dense layer."""
    weight, bias = (tensors[f"{name}.{kind}"] * np.float32(scale) for kind in ("weight", "bias"))
    settings = {"in_features": weight.shape[1], "out_features": weight.shape[0], "bias": True}
    settings["activation_function"] = f"torch.nn.modules.{activation}"
    return settings, {"linear.weight": weight, "linear.bias": bias}


@contextmanager
def _appearing(out: pathlib.Path) -> Iterator[pathlib.Path]:
    """A folder that becomes `out` at the end, or leaves nothing."""
    if out.exists():
        raise ConfigError(f"{out}: is there already: pass another OUT, or delete it")
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        os.replace(partial, out)
    except OSError as error:
        raise ConfigError(f"cannot write {out}: {error.strerror or error}: free some space or fix the path") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
