"""How many parameters each part of the model has, from the settings alone."""

from realm_jax.config import Config, ModelConfig

NORM = 2  # vectors of a LayerNorm: scale and bias
SEGMENTS = 2
FLOAT32 = 4  # bytes of a parameter, a gradient or a moment of Adam


def of_layers(model: ModelConfig) -> int:
    """Those of all transformer layers of one BERT, which `model.scan_layers` stacks."""
    hidden, wide = model.hidden_size, model.intermediate_size
    attention = 4 * (hidden + 1) * hidden
    feed_forward = (hidden + 1) * wide + (wide + 1) * hidden
    return model.num_layers * (attention + feed_forward + 2 * NORM * hidden)


def of_bert(model: ModelConfig) -> int:
    """Those of one BERT, without pooler and heads."""
    rows = model.vocab_size + model.max_positions + SEGMENTS + NORM
    return rows * model.hidden_size + of_layers(model)


def of_tower(model: ModelConfig) -> int:
    """Those that embed queries or blocks."""
    hidden, dim = model.hidden_size, model.projection_dim
    pooler = (hidden + 1) * hidden if model.pooling == "cls" else 0
    return of_bert(model) + pooler + (hidden + 1) * dim + NORM * dim


def of_encoder(model: ModelConfig) -> int:
    """Those of the knowledge-augmented encoder: a BERT and the transform, norm and bias of its MLM head."""
    hidden = model.hidden_size
    return of_bert(model) + (hidden + 1) * hidden + NORM * hidden + model.vocab_size


def of_reader(model: ModelConfig) -> int:
    """Those of the reader: a BERT and its span scorer."""
    width = model.span_hidden_size
    return of_bert(model) + (model.hidden_size + 1) * 2 * width + NORM * width + width + 1


def of_phase(config: Config, phase: str) -> dict[str, int]:
    """Parameters on a device in `ict`, `pretrain` or `finetune`, by part, an embedder's towers together."""
    model = config.model
    embedder = of_tower(model) * (1 if model.shared_tower and phase != "finetune" else 2)
    if phase == "ict":
        return {"embedder": embedder}
    return {"embedder": embedder} | (
        {"encoder": of_encoder(model)} if phase == "pretrain" else {"reader": of_reader(model)}
    )


def trained(config: Config, phase: str) -> int:
    """Those that the phase's optimizer moves."""
    parts = of_phase(config, phase)
    if phase == "pretrain" and not config.pretrain.train_retriever:
        return parts["encoder"]
    if phase == "finetune":
        towers = {"none": 0, "query": 1, "both": 2}[config.finetune.train_retriever]
        return parts["reader"] + towers * of_tower(config.model)
    return sum(parts.values())
