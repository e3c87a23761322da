"""Masked sentences with their retrieved blocks, for people: what the report shows."""

import re

import jax
import numpy as np
from tokenizers import Tokenizer

from realm_jax import parallel
from realm_jax.config import Config
from realm_jax.data.assembly import with_candidates
from realm_jax.data.prepare import RunData
from realm_jax.eval.heldout import HeldoutSet, answer_among
from realm_jax.index.embed_blocks import TowerEmbedder
from realm_jax.index.exact import ExactSearch
from realm_jax.index.probe import embed_queries
from realm_jax.index.source_block import drop_source
from realm_jax.losses import marginal
from realm_jax.model_folder.wordpiece import piece
from realm_jax.models import knowledge_encoder, realm

CONSIDERED = 64


def describe(
    config: Config, data: RunData, heldout: HeldoutSet, params: dict, embeddings: np.ndarray, count: int = 3
) -> str:
    """Markdown on `count` held-out sentences: masked text, answer, and per candidate p(z|x), r(z) and its prediction.

    Of the first sentences, those come first whose answer stands in a retrieved block, where retrieval can matter.
    """
    considered = min(CONSIDERED, len(heldout.answers))
    rows = np.arange(-(-considered // parallel.num_devices()) * parallel.num_devices()) % considered
    queries = jax.tree.map(lambda x: x[rows], heldout.queries)
    query_emb = embed_queries(TowerEmbedder(config, params["embedder"], "query"), queries.query)
    found, _ = ExactSearch(embeddings).search(query_emb, config.pretrain.num_candidates)
    candidates = drop_source(found, queries.source_hash, data.knowledge)[:, :-1]
    holds = answer_among(data.knowledge, candidates, [heldout.answers[row] for row in rows])
    batch = with_candidates(queries, candidates, data.knowledge, parallel.num_devices())

    def judge(params, batch):
        read = realm.forward(config, params, batch, None)
        reward = marginal.retrieval_reward(read.prior, read.logp, batch.mask_weights)
        predicted, _ = knowledge_encoder.best_tokens(config.model, params["encoder"], read.states)
        return read.prior, reward, predicted

    run = parallel.on_local_devices(judge)
    judged = jax.device_get(run(parallel.replicate(params), parallel.shard(batch)))
    prior, reward, predicted = (x.reshape(-1, *x.shape[2:]) for x in judged)
    shown = np.argsort(~holds[:considered], kind="stable")[:count]
    return "\n".join(
        _one(data, queries.query.ids[i], heldout.answers[i], candidates[i], prior[i], reward[i], predicted[i])
        for i in shown
    )


def _one(data: RunData, query_ids, answer, candidates, prior, reward, predicted) -> str:
    tokenizer = data.tokenizer
    lines = [f"**{_text(tokenizer, query_ids)}**", "", f"answer: *{_text(tokenizer, answer)}*", ""]
    lines += ["| p(z\\|x) | r(z) | prediction | block |", "|---:|---:|:---|:---|"]
    for z, block in enumerate([-1, *candidates]):
        if z and block < 0:
            continue
        text = "(null block)"
        if z:
            record = data.knowledge.block(int(block))
            text = _plain(f"{record.title}: {record.text}")
        words = _text(tokenizer, predicted[z][: len(answer)])
        lines.append(f"| {np.exp(prior[z]):.3f} | {reward[z]:+.3f} | {words} | {text} |")
    return "\n".join([*lines, ""])


def _text(tokenizer: Tokenizer, ids) -> str:
    pieces = [piece(tokenizer, int(i)) for i in ids]
    kept = [p for p in pieces if p not in ("[PAD]", "[CLS]", "[SEP]")]
    return _plain(" ".join(kept).replace(" ##", ""))


def _plain(text: str) -> str:
    """A corpus's text on one line, without meaning for Markdown: no emphasis, HTML, links or images."""
    text = re.sub(r"([\\`*_<>|~&$])", r"\\\1", re.sub(r"\s+", " ", text))
    return text.replace("](", "]\\(").replace("][", "]\\[")
