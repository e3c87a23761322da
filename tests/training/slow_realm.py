"""REALM's pre-training objective by its definition, in plain Python and NumPy: what `realm_loss` has to equal.

Nothing comes from the package, not even a type. Equations are those of Guu et al. 2020 (§3.1, §3.2, appendices A and
D), layers those of Devlin et al. 2019; where they leave it open, the released code decides (LayerNorm on the
projection, the marginal of each wordpiece, no title for the encoder). A text has no padding here, and a query no
candidate that was not found. All arithmetic is float64.
"""

import dataclasses
import math
from typing import NamedTuple

import numpy as np


class Text(NamedTuple):
    """Wordpieces, special tokens among them, and the segment of each."""

    ids: list[int]
    types: list[int]


class Candidate(NamedTuple):
    block: Text
    """`[CLS] title [SEP] body [SEP]`, for the embedder"""
    joint: Text
    """`[CLS] x [SEP] body [SEP]`, for the encoder"""


class Query(NamedTuple):
    text: Text
    """`[CLS] x [SEP]`"""
    masked: list[tuple[int, int]]
    """(position in the text, wordpiece that was there)"""
    candidates: dict[int, Candidate]
    """By their place; the null block has place 0."""


@dataclasses.dataclass(frozen=True)
class Settings:
    num_heads: int
    gelu: str
    pooling: str
    marginal: str
    null_block: bool


# Inputs: from raw wordpieces, or from a batch's arrays.


def from_wordpieces(before, span, after, blocks, *, cls, sep, mask, query_len, block_len, max_masks) -> Query:
    """The sentence `before span after`, whose span is masked, with its blocks' (title, body) by place, from 1.

    Args:
        query_len, block_len: of `[CLS] x [SEP]` and `[CLS] title [SEP] body [SEP]`: a longer sentence or body is cut.
        max_masks: of a longer span, only the first wordpieces are predicted.
    """
    sentence = [*before, *[mask] * len(span), *after][: query_len - 2]
    candidates = {}
    for place, (title, body) in {0: ([], []), **blocks}.items():
        body = body[: block_len - len(title) - 3]
        block, joint = (
            Text([cls, *first, sep, *body, sep], [0] * (len(first) + 2) + [1] * (len(body) + 1))
            for first in (title, sentence)
        )
        candidates[place] = Candidate(block, joint)
    masked = [(len(before) + 1 + j, piece) for j, piece in enumerate(span[:max_masks])]
    return Query(Text([cls, *sentence, sep], [0] * (len(sentence) + 2)), masked, candidates)


def from_arrays(batch) -> list[Query]:
    """The queries of a batch whose fields are those of `PretrainBatch`, as NumPy arrays."""

    def text(tokens, *row) -> Text:
        real = tokens.mask[row]
        return Text(tokens.ids[row][real].tolist(), tokens.types[row][real].tolist())

    queries = []
    for b, exists in enumerate(batch.candidate_mask):
        query = text(batch.query, b)
        cls, sep = query.ids[0], query.ids[-1]
        candidates = {0: Candidate(Text([cls, sep, sep], [0, 0, 1]), text(batch.null_joint, b))}
        for k in range(1, len(exists)):
            if exists[k]:
                candidates[k] = Candidate(text(batch.blocks, b, k - 1), text(batch.joint, b, k - 1))
        rows = zip(batch.mask_positions[b], batch.mask_targets[b], batch.mask_weights[b], strict=True)
        masked = [(int(position), int(piece)) for position, piece, weight in rows if weight]
        queries.append(Query(query, masked, candidates))
    return queries


# BERT.


def dense(x, p):
    return x @ p["kernel"] + p["bias"]


def layer_norm(x, p):
    centred = x - x.mean(-1, keepdims=True)
    variance = (centred**2).mean(-1, keepdims=True)
    return centred / np.sqrt(variance + 1e-12) * p["scale"] + p["bias"]


def softmax(x):
    unnormalised = np.exp(x - x.max(-1, keepdims=True))
    return unnormalised / unnormalised.sum(-1, keepdims=True)


def gelu(x, settings):
    if settings.gelu == "tanh":
        return x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return x / 2 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def attention(x, p, settings):
    query, key, value = (dense(x, p[name]) for name in ("query", "key", "value"))
    size = x.shape[1] // settings.num_heads
    heads = []
    for start in range(0, x.shape[1], size):
        own = slice(start, start + size)
        heads.append(softmax(query[:, own] @ key[:, own].T / math.sqrt(size)) @ value[:, own])
    return dense(np.concatenate(heads, axis=1), p["output"])


def bert(text, p, settings):
    """Last hidden states [wordpieces, hidden]."""
    word, position, segment = (p["embeddings"][name]["embedding"] for name in ("word", "position", "type"))
    x = np.stack([word[piece] + position[i] + segment[text.types[i]] for i, piece in enumerate(text.ids)])
    x = layer_norm(x, p["embeddings"]["norm"])
    for i in range(sum(name.startswith("layer_") for name in p)):
        layer = p[f"layer_{i}"]
        x = layer_norm(x + attention(x, layer["attention"], settings), layer["attention_norm"])
        widened = gelu(dense(x, layer["intermediate"]), settings)
        x = layer_norm(x + dense(widened, layer["output"]), layer["output_norm"])
    return x


# Retrieve, then predict (§3.1, §3.2).


def embed(text, tower, settings):
    """LayerNorm(W pool(BERT(text)))."""
    hidden = bert(text, tower["bert"], settings)
    pooled = np.tanh(dense(hidden[0], tower["pooler"])) if settings.pooling == "cls" else hidden.mean(0)
    return layer_norm(dense(pooled, tower["projection"]), tower["projection_norm"])


def scores(query, params, settings) -> dict[int, float]:
    """f(x, z) = Embed_input(x) . Embed_doc(z) of each candidate."""
    towers = params["embedder"]
    input_tower, doc_tower = (towers["shared"] if "shared" in towers else towers[side] for side in ("query", "block"))
    x = embed(query.text, input_tower, settings)
    return {z: float(x @ embed(candidate.block, doc_tower, settings)) for z, candidate in query.candidates.items()}


def predictions(query, params, settings) -> dict[int, list[np.ndarray]]:
    """p(. | z, x) over the vocabulary at each masked position; the MLM head is tied to the word embeddings."""
    encoder, found = params["encoder"], {}
    head, word_table = encoder["mlm"], encoder["bert"]["embeddings"]["word"]["embedding"]
    for z, candidate in query.candidates.items():
        hidden = bert(candidate.joint, encoder["bert"], settings)
        found[z] = []
        for position, _ in query.masked:
            x = layer_norm(gelu(dense(hidden[position], head["transform"]), settings), head["norm"])
            found[z].append(softmax(word_table @ x + head["bias"]))
    return found


def likelihoods(query, predicted) -> dict[int, list[float]]:
    """p(y_j | z, x) of the wordpieces that were masked."""
    return {z: [p[y] for p, (_, y) in zip(ps, query.masked, strict=True)] for z, ps in predicted.items()}


def prior(score, settings) -> dict[int, float]:
    """p(z | x) over the candidates; the null block is one of them or not."""
    places = [z for z in score if z or settings.null_block]
    return dict(zip(places, softmax(np.array([score[z] for z in places])), strict=True))


def losses(score, p_y, settings) -> list[float]:
    """-log p(y | x) of a query: of each wordpiece by itself (released code), or of the whole span (equation 1).

    Args:
        score: f(x, z) by place.
        p_y: p(y_j | z, x) by place.
    """
    p_z, pieces = prior(score, settings), range(len(p_y[0]))
    if settings.marginal == "token":
        return [-math.log(sum(p_z[z] * p_y[z][j] for z in p_z)) for j in pieces]
    return [-math.log(sum(p_z[z] * math.prod(p_y[z]) for z in p_z))] if pieces else []


def rewards(score, p_y, settings) -> dict[int, float]:
    """r(z) = [p(y | z, x) / p(y | x) - 1] p(z | x), the gradient of log p(y | x) in f(x, z) (appendix A)."""
    p_z = prior(score, settings)
    p_y_given_x = sum(p_z[z] * math.prod(p_y[z]) for z in p_z)
    return {z: (math.prod(p_y[z]) / p_y_given_x - 1) * p_z[z] for z in p_z}


def objective(queries, params, settings) -> dict[str, tuple[float, int]]:
    """The loss of a batch and what is measured beside it, by name: (sum, count), over wordpieces or over queries.

    Without the null block, a query for which nothing was found has no p(y | x): it is counted, and nothing else.
    """
    terms = {name: [] for name in ("loss", "accuracy", "null_accuracy", "null_loss", "utility")}
    terms |= {"null_share": [], "top_share": []}
    if not settings.null_block:
        terms["without_candidates"] = [query.candidates.keys() == {0} for query in queries]
        queries = [query for query in queries if query.candidates.keys() != {0}]
    for query in queries:
        score, predicted = scores(query, params, settings), predictions(query, params, settings)
        p_z, p_y = prior(score, settings), likelihoods(query, predicted)
        terms["loss"] += losses(score, p_y, settings)
        terms["null_share"].append(p_z.get(0, 0.0))
        terms["top_share"].append(max(p_z.values()))
        for j, (_, y) in enumerate(query.masked):
            right = {z: predicted[z][j].argmax() == y for z in predicted}
            terms["accuracy"].append(sum(p_z[z] * right[z] for z in p_z))
            terms["null_accuracy"].append(right[0])
            terms["null_loss"].append(-math.log(p_y[0][j]))
            # As in the released code: of the marginal, wordpiece by wordpiece.
            terms["utility"].append(math.log(sum(p_z[z] * p_y[z][j] for z in p_z)) - math.log(p_y[0][j]))
    return {name: (float(sum(values)), len(values)) for name, values in terms.items()}
