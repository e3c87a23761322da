"""Which of REALM's models a checkpoint holds, and their parameters under our names.

Every tensor of a checkpoint becomes a parameter of ours, is in the list of what REALM never uses, or stops the
conversion; so does every parameter of ours that the checkpoint lacks.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Shaped

from realm_jax.config import ConfigError, ModelConfig
from realm_jax.model_folder.checkpoint import Checkpoint
from realm_jax.models.names import Name, Part, flatten, from_torch, names, unflatten, usual
from realm_jax.models.shapes import shapes

BLOCK_EMB = "block_emb"
_TORCH_WORDS = re.compile(
    r"(?P<head>(?:embedder\.|query_embedder\.|reader\.)?)(?P<bert>realm\.|bert\.|)embeddings\.word_embeddings\.weight"
)
_TF_WORDS = re.compile(r"(?P<root>(?:[^/]+/)*?)bert/embeddings/word_embeddings")
_TRAINING_STATE = re.compile(r"(^|/)(adam_[mv]|AdamWeightDecayOptimizer\w*|global_step)$|^global_step")
_BUFFER = re.compile(r"(^|\.)(position_ids|token_type_ids)$")
# What each model's checkpoint carries along; torch's names, then TensorFlow's.
_UNUSED: dict[str, str] = {
    "embedder": r"cls[./](predictions|seq_relationship)[./].*",
    "encoder": r"realm\.pooler\..*|bert/pooler/.*|cls[./]seq_relationship[./].*",
    "reader": r"cls[./].*|realm\.pooler\..*|bert/pooler/.*",
    "bert": r"realm\.pooler\..*|bert/pooler/.*|cls[./]seq_relationship[./].*|of another head: .*",
}
_TIED = {"cls.predictions.decoder.weight": "bert.embeddings.word.embedding", "cls.predictions.decoder.bias": "mlm.bias"}


@dataclass
class Row:
    """One line of the conversion's table."""

    ours: str
    """Dotted path of our parameter; empty for a tensor that is not used."""
    shape: tuple[int, ...]
    origin: str
    """The tensor, and the SOURCE that holds it; or why there is none."""


@dataclass
class Model:
    """One model that a checkpoint holds."""

    kind: Part | str
    """embedder, encoder or reader; `bert` for a BERT that is not REALM's."""
    root: str
    """What its tensors' names begin with: `query_embedder.`, `reader.` or nothing."""
    tensors: dict[str, Shaped[np.ndarray, "*_shape"]]
    """Arrays under the names of `models.names`."""
    full_names: dict[str, str]
    """The checkpoint's name of each of them."""
    source: Checkpoint
    used: set[str] = field(default_factory=set)

    @property
    def num_layers(self) -> int:
        """Layers of the BERT, by the names of its tensors."""
        pattern = r"bert/encoder/layer_(\d+)/.*" if self.source.is_tf else r"realm\.encoder\.layer\.(\d+)\..*"
        return 1 + max((int(m[1]) for m in (re.fullmatch(pattern, name) for name in self.tensors) if m), default=-1)

    def name_of(self, name: Name) -> str:
        """What the checkpoint calls a parameter."""
        return name.tf if self.source.is_tf else name.torch

    @property
    def is_tuned(self) -> bool:
        """Whether it comes with a reader: fine-tuning moves the embedder of queries, which then embeds no blocks."""
        return any("qa_outputs" in name or "reader/" in name for name in self.source.tensors)

    @property
    def meant(self) -> set[str]:
        """Names of the tensors that a model of its kind uses."""
        return {name for name in self.tensors if not re.fullmatch(_UNUSED[self.kind], name)}

    def equals(self, other: "Model") -> bool:
        """Whether both have the same parameters; what neither uses may differ."""
        meant = self.meant
        return meant == other.meant and all(np.array_equal(self.tensors[n], other.tensors[n]) for n in meant)


def find_models(source: Checkpoint) -> list[Model]:
    """The models in a checkpoint. Raises ConfigError if a tensor belongs to none, or holds integers."""
    rest = {
        n: x
        for n, x in source.tensors.items()
        if n != BLOCK_EMB and not _TRAINING_STATE.search(n) and not _BUFFER.search(n)
    }
    whole = next((n for n, x in rest.items() if x.dtype.kind in "iub"), None)
    if whole is not None:
        raise ConfigError(f"{source.spec}: {whole} holds whole numbers: pass the weights before they were quantized")
    models = []
    find = _tf_model if source.is_tf else _torch_model
    pattern = _TF_WORDS if source.is_tf else _TORCH_WORDS
    for match in filter(None, map(pattern.fullmatch, sorted(rest, reverse=True))):  # longest roots first
        model = find(source, rest, match)
        models.append(model)
        for name in model.full_names.values():
            del rest[name]
    if rest:
        listed = _listed((n, rest[n].shape) for n in sorted(rest))
        raise ConfigError(
            f"{source.spec}: holds tensors of no BERT: {listed}: pass a BERT alone, named as transformers names it "
            "(an adapter merged, no wrapper around it)"
        )
    return models


def carried(source: Checkpoint) -> list[Row]:
    """Rows of what a checkpoint carries besides the tensors of its models."""
    kinds = ((_BUFFER, "a buffer"), (_TRAINING_STATE, "state of its training"))
    return [
        Row("", value.shape, f"{source.spec}: {name} ({what})")
        for name, value in source.tensors.items()
        for pattern, what in kinds
        if pattern.search(name)
    ]


def _torch_model(source: Checkpoint, tensors: Mapping[str, np.ndarray], match: re.Match) -> Model:
    head = match["head"]
    full = {usual(name.removeprefix(head)): name for name in tensors if name.startswith(head)}
    kind = "bert"
    if match["bert"] == "bert." and not head:  # whatever is not in it was put on top of it for some task
        other = [ours for ours, name in full.items() if not name.startswith(("bert.", "cls."))]
        full |= {f"of another head: {ours}": full.pop(ours) for ours in other}
    if "cls.dense.weight" in full:
        kind = "embedder"
    elif "qa_outputs.dense_output.weight" in full:
        kind = "reader"
    elif match["bert"] == "realm.":
        kind = "encoder"
    return Model(kind, head, {name: tensors[n] for name, n in full.items()}, full, source)


def _tf_model(source: Checkpoint, tensors: Mapping[str, np.ndarray], match: re.Match) -> Model:
    root = match["root"]
    head = root.removesuffix("module/")  # a BERT is wrapped once more than its heads
    full = {}
    for name in tensors:
        if name.startswith(root + "bert/"):
            full[name.removeprefix(root)] = name
        elif name.startswith(head) and "bert/" not in name:
            full[name.removeprefix(root if name.startswith(root + "cls/") else head)] = name
    kind = "bert" if any(name.startswith("cls/seq_relationship/") for name in full) else "encoder"
    if "layer_normalization/gamma" in full:
        kind = "reader"
    elif "LayerNorm/gamma" in full:
        kind = "embedder"
    return Model(kind, head, {name: tensors[n] for name, n in full.items()}, full, source)


def template(part: Part, config: ModelConfig) -> dict:
    """Shapes of a part's parameters, of one tower in the case of the embedder."""
    tree = shapes(part, config)
    return next(iter(tree.values())) if part == "embedder" else tree


def read(model: Model, part: Part, config: ModelConfig, ours: str) -> tuple[dict, list[Row]]:
    """A part's parameters from a model of a checkpoint.

    Args:
        ours: what the part is called in the table: `embedder.shared`, `encoder`, …

    Returns:
        the tree, float32 and possibly still on disk, without the heads that a plain BERT lacks; and the table's rows.

    Raises:
        ConfigError: parameters are missing or of another shape; all are named.
    """
    if model.num_layers != config.num_layers:
        found = f"the weights of {model.num_layers} layers, its config.json says {config.num_layers}"
        raise ConfigError(f"{model.source.spec}: has {found}: pass files that belong together")
    wanted = names(part, config.num_layers, pooler=config.pooling == "cls")
    shape_of = {path: leaf.shape for path, leaf in flatten(template(part, config)).items()}
    leaves, rows, missing, misshapen = {}, [], [], []
    begun = {_head(name) for name in wanted if model.name_of(name) in model.tensors}
    for name in wanted:
        theirs, shape = model.name_of(name), shape_of[name.ours]
        if theirs not in model.tensors:
            if model.kind != "bert" or _head(name) in begun:  # a plain BERT's heads need not be there
                missing.append((theirs, shape))
            continue
        value, full = model.tensors[theirs], model.full_names[theirs]
        turned = value if model.source.is_tf else from_torch(name, value)
        model.used.add(theirs)
        if turned.shape != shape:
            misshapen.append(f"{full} {value.shape} for {name.ours} {shape}")
        leaves[name.ours] = np.asarray(turned, np.float32)
        if not np.isfinite(leaves[name.ours]).all():
            raise ConfigError(f"{model.source.spec}: {full} holds NaN or infinite numbers: pass other weights")
        rows.append(Row(f"{ours}.{name.ours}", turned.shape, f"{model.source.spec}: {full}"))
    problems = [f"lacks {_listed(missing)}"] if missing else []
    if misshapen:
        problems.append("has other shapes than the config: " + "; ".join(misshapen))
    if problems:
        raise ConfigError(f"{model.source.spec}: the {model.kind} {' and '.join(problems)}: {_left_hint(model)}")
    return unflatten(leaves), rows


def unused(model: Model, leaves: Mapping[str, Shaped[np.ndarray, "*_shape"]]) -> list[Row]:
    """Rows of the tensors that nothing used. Raises ConfigError if one of them should have been.

    Args:
        leaves: by the names of `models.names`, what the model's parameters became.
    """
    rows, left, meant = [], [], model.meant
    for name in sorted(model.tensors.keys() - model.used):
        full, value = model.full_names[name], model.tensors[name]
        if name in _TIED and "mlm.bias" in leaves:
            if not np.array_equal(value, leaves[_TIED[name]]):
                raise ConfigError(
                    f"{model.source.spec}: {full} differs from the {_TIED[name]} that it is tied to in REALM: "
                    "convert a checkpoint whose MLM head is tied"
                )
            rows.append(Row("", value.shape, f"{model.source.spec}: {full} (tied to {_TIED[name]})"))
        elif name not in meant:
            rows.append(Row("", value.shape, f"{model.source.spec}: {full} (no part of REALM's {model.kind})"))
        else:
            left.append((full, value.shape))
    if left:
        raise ConfigError(
            f"{model.source.spec}: the {model.kind} holds tensors that have no place: {_listed(left)}: "
            "is it a REALM or BERT checkpoint?"
        )
    return rows


def repeated(model: Model, other: Model) -> list[Row]:
    """Rows of a model that equals another."""
    rows, meant = [], model.meant
    for name, value in model.tensors.items():
        why = f"equal to {other.full_names[name]}" if name in meant else f"no part of REALM's {model.kind}"
        rows.append(Row("", value.shape, f"{model.source.spec}: {model.full_names[name]} ({why})"))
    return rows


def _head(name: Name) -> str:
    """The module that a parameter belongs to: a checkpoint has all of a module's parameters or none."""
    return name.ours.split(".")[0].removesuffix("_norm")


def _left_hint(model: Model) -> str:
    left = [(model.full_names[n], model.tensors[n].shape) for n in sorted(model.meant - model.used)]
    return f"left over on their side: {_listed(left)}" if left else "nothing is left over on their side"


def _listed(items: Iterable[tuple[str, tuple]], limit: int = 12) -> str:
    items = list(items)
    more = f", and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(f"{name} {shape}" for name, shape in items[:limit]) + more
