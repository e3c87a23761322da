"""Held-out masked sentences with the blocks that are retrieved for them, as parts of a report."""

from collections.abc import Iterable, Sequence

import jax
import numpy as np
from jaxtyping import Integer
from tokenizers import Tokenizer

from realm_jax import parallel, report
from realm_jax.config import Config
from realm_jax.data.assembly import with_candidates
from realm_jax.data.prepare import RunData
from realm_jax.eval.heldout import HeldoutSet
from realm_jax.index.answer_block import has_span
from realm_jax.index.embed_blocks import TowerEmbedder
from realm_jax.index.probe import embed_queries
from realm_jax.index.search import Search
from realm_jax.index.source_block import drop_source
from realm_jax.losses import marginal
from realm_jax.model_folder.wordpiece import piece
from realm_jax.models import knowledge_encoder, realm
from realm_jax.report import Marked, Part, Table

CONSIDERED = 64
"""First sentences of the held-out ones, from which the shown ones are chosen."""
HEADER = ("p(z|x)", "r(z)", "prediction", "block")


def describe(
    config: Config,
    data: RunData,
    heldout: HeldoutSet,
    params: dict,
    search: Search,
    count: int = 3,
) -> list[Part]:
    """Shows `count` held-out sentences: the masked text, the answer, and p(z|x), r(z) and prediction of each candidate.

    Sentences whose answer stands in a retrieved block are preferred, since retrieval can matter there.

    Args:
        search: over blocks that the embedder of `params` embedded.
    """
    queries = jax.tree.map(lambda x: x[:CONSIDERED], heldout.queries)
    query_emb = embed_queries(TowerEmbedder(config, params["embedder"], "query"), queries.query)
    found, _ = search.search(query_emb, config.pretrain.num_candidates)
    candidates = drop_source(found, queries.source_hash, data.knowledge)[:, :-1]
    holds = has_span(candidates, queries, data.knowledge).any(1)
    shown, devices = np.argsort(~holds, kind="stable")[:count], parallel.num_devices()
    rows = np.resize(shown, -(-len(shown) // devices) * devices)
    queries, candidates = jax.tree.map(lambda x: x[rows], queries), candidates[rows]
    batch = with_candidates(queries, candidates, data.knowledge, devices)

    def judge(params, batch):
        read = realm.forward(config, params, batch, None)
        reward = marginal.retrieval_reward(read.prior, read.logp, batch.mask_weights)
        predicted, _ = knowledge_encoder.best_tokens(config.model, params["encoder"], read.states)
        return read.prior, reward, predicted

    run = parallel.on_local_devices(judge)
    judged = jax.device_get(run(parallel.replicate(params), parallel.shard(batch)))
    prior, reward, predicted = (x.reshape(-1, *x.shape[2:]) for x in judged)
    parts: list[Part] = []
    for i, chosen in enumerate(shown):
        answer = heldout.answers[chosen]
        sentence, wanted = (report.plain(_text(data.tokenizer, ids)) for ids in (queries.query.ids[i], answer))
        rows = list(_rows(data, candidates[i], prior[i], reward[i], predicted[i][:, : len(answer)]))
        parts += [Marked(f"**{sentence}**"), Marked(f"answer: *{wanted}*"), Table(HEADER, rows, words=HEADER[2:])]
    return parts


def _rows(data: RunData, candidates, prior, reward, predicted) -> Iterable[tuple[str, ...]]:
    """A row for the null block, and one for each block that was found."""
    for z, block in enumerate([None, *candidates.tolist()]):
        if block is None:
            text = "(null block)"
        elif block >= 0:
            found = data.knowledge.block(block)
            text = f"{found.title}: {found.text}"
        else:
            continue
        yield f"{np.exp(prior[z]):.3f}", f"{reward[z]:+.3f}", _text(data.tokenizer, predicted[z]), text


def _text(tokenizer: Tokenizer, ids: Integer[np.ndarray, " tokens"] | Sequence[int]) -> str:
    """The wordpieces as words, without padding and separators."""
    pieces = (piece(tokenizer, int(i)) for i in ids)
    return " ".join(p for p in pieces if p not in ("[PAD]", "[CLS]", "[SEP]")).replace(" ##", "")
