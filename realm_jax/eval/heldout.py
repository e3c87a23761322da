"""Judges a state of the parameters on held-out masked sentences: what it retrieves for them, and what it predicts.

Everything is measured for each example, so that two states of a run can be compared example by example. The index is
exact and made with the weights that are judged, so that neither staleness nor approximation enters; of a corpus that is
too large for that, it has a sample of the blocks.
"""

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32, Shaped, UInt16

from realm_jax import parallel
from realm_jax.batches import MaskedQueries, PretrainBatch, stack
from realm_jax.config import Config, ConfigError
from realm_jax.data.assembly import with_candidates
from realm_jax.data.pipeline import MaskedSentences
from realm_jax.data.prepare import RunData
from realm_jax.eval import block_sample
from realm_jax.eval.block_sample import BlockSample, NewestIndex
from realm_jax.index.answer_block import has_span
from realm_jax.index.embed_blocks import TowerEmbedder
from realm_jax.index.loaded_index import LoadedIndex, exact_index, is_too_large
from realm_jax.index.probe import KS, Probe, embed_queries, make_probe
from realm_jax.index.source_block import drop_source
from realm_jax.losses import marginal
from realm_jax.models import knowledge_encoder, realm
from realm_jax.progress import Progress
from realm_jax.scores import recall
from realm_jax.workdir import Workdir

LOSS_BATCH = 16  # queries that a device reads at once
Answer = UInt16[np.ndarray, " _wordpieces"]


@dataclass(frozen=True)
class HeldoutSet:
    """The examples that every state of a run is judged on."""

    queries: MaskedQueries
    """[batch, ...]: at most one masked span of each held-out sentence."""
    answers: list[Answer]
    """The wordpieces of each span."""
    random_blocks: Int32[np.ndarray, "batch found"]
    """Ordinals of random blocks, the same for every state: one fewer than candidates, since the null block is one."""
    probe: Probe | None
    """Held-out sentences of the knowledge corpus, to measure recall of the block that each was cut from."""


def heldout_set(config: Config, data: RunData) -> HeldoutSet:
    """The held-out examples of a run, without spans that have an [UNK]: any unknown word would be their answer.

    Raises:
        ConfigError: no held-out sentence can be masked.
    """
    policy = dataclasses.replace(config.pretrain, masking="salient", sampling="span", answer_elsewhere=False)
    fraction, kept = config.corpus.heldout_fraction, data.examples
    sentences = MaskedSentences(data.text, data.special, policy, fraction, heldout=True, kept=kept)
    numbers = sentences.one_per_sentence(config.pretrain.recall_examples, config.seed)
    unknown = data.tokenizer.token_to_id("[UNK]")
    numbers = [number for number in numbers if unknown not in sentences.answer(number)]
    if not numbers:
        raise ConfigError(f"{data.text.folder}: no held-out span has known wordpieces alone: use another vocabulary")
    rng = np.random.default_rng(config.seed)
    shape = (len(numbers), config.pretrain.num_candidates - 1)
    return HeldoutSet(
        queries=stack([sentences.example(number, rng) for number in numbers]),
        answers=[sentences.answer(number) for number in numbers],
        random_blocks=rng.integers(data.knowledge.num_blocks, size=shape, dtype=np.int32),
        probe=make_probe(data.knowledge, data.special, config, config.pretrain.recall_examples, kept),
    )


def heldout_sample(workdir: Workdir, data: RunData, heldout: HeldoutSet, newest_params: dict) -> BlockSample | None:
    """The blocks to search where the corpus is too large to be embedded for each state; None where it is not.

    Args:
        newest_params: those of the run's last state, by whose index near misses are found.
    """
    if not is_too_large(workdir.config, data.knowledge):
        return None
    newest = NewestIndex(workdir, data.knowledge, newest_params["embedder"])
    found = [newest.search(heldout.queries.query, workdir.config.pretrain.num_candidates)[0]]
    if heldout.probe is not None:
        found.append(heldout.probe.own_block)
        found += [newest.search(tokens, max(KS))[0] for tokens in (heldout.probe.plain, heldout.probe.hard)]
    return block_sample.draw(workdir.config, data.knowledge, found, newest.name)


def evaluate(
    config: Config,
    data: RunData,
    heldout: HeldoutSet,
    params: dict,
    name: str,
    index: LoadedIndex | None = None,
) -> tuple[dict[str, Shaped[np.ndarray, " _examples"]], LoadedIndex]:
    """Judges one state of the parameters.

    Args:
        index: made with these parameters; by default it is made here, of all blocks.

    Returns:
        the values of each measure, one for each example, and the index. `answer_retrieved` and `answer_random` say
        whether a candidate's body has the answer; `plain_recall@k` and `hard_recall@k` are the probe's. For the first
        `pretrain.eval_examples` there are `loss_*` (nats per wordpiece), `accuracy_*` and `right_*` with retrieved,
        random and null blocks, `utility` and `null_share`. Accuracy is the share of the span's wordpieces, expected
        over p(z|x); right is 1 if all of them are what the candidates together predict. Where `pretrain.null_block` is
        off, an example without any candidate is read with the null block, for a utility of 0.
    """
    knowledge = data.knowledge
    index = index or exact_index(config, knowledge, params["embedder"], name)
    embed = TowerEmbedder(config, params["embedder"], "query")
    query_emb = embed_queries(embed, heldout.queries.query)
    found, _ = index.search.search(query_emb, config.pretrain.num_candidates)
    retrieved = drop_source(found, heldout.queries.source_hash, knowledge)[:, :-1]
    random_blocks = drop_source(heldout.random_blocks, heldout.queries.source_hash, knowledge)
    values = {
        "answer_retrieved": has_span(retrieved, heldout.queries, knowledge).any(1),
        "answer_random": has_span(random_blocks, heldout.queries, knowledge).any(1),
    }
    if heldout.probe is not None:
        for kind, tokens in (("plain", heldout.probe.plain), ("hard", heldout.probe.hard)):
            ids, _ = index.search.search(embed_queries(embed, tokens), max(KS))
            values |= {f"{kind}_recall@{k}": recall.hits(ids, heldout.probe.own_block, k) for k in KS}
    if "encoder" in params:
        values |= _reading(config, knowledge, heldout.queries, params, retrieved, random_blocks, name)
    return values, index


def _reading(config, knowledge, queries, params, retrieved, random_blocks, name) -> dict[str, np.ndarray]:
    """Losses and accuracies of the first `eval_examples`, read in batches of one shape, the last one padded."""
    count = min(config.pretrain.eval_examples, len(retrieved))
    batch = LOSS_BATCH * parallel.num_devices()
    step = _compiled(config)
    replicated = parallel.replicate(params)
    progress = Progress(f"{name}: reading held-out sentences")
    parts: dict[str, list] = {}
    for start in range(0, count, batch):
        rows = np.minimum(np.arange(start, start + batch), count - 1)
        chosen = jax.tree.map(lambda x, rows=rows: x[rows], queries)
        for kind, candidates in (("retrieved", retrieved), ("random", random_blocks)):
            joined = with_candidates(chosen, candidates[rows], knowledge, parallel.num_devices())
            result = jax.device_get(step(replicated, parallel.shard(joined)))
            for key, value in result.items():
                parts.setdefault(f"{key}_{kind}", []).append(value.reshape(-1)[: count - start])
        progress(min(start + batch, count), count)
    values = {key: np.concatenate(value) for key, value in parts.items()}
    kinds = ("loss", "accuracy", "right")
    renamed = {f"{kind}_{read}": values[f"{kind}_{read}"] for kind in kinds for read in ("retrieved", "random")}
    return renamed | {
        **{f"{kind}_null": values[f"{kind}_null_retrieved"] for kind in kinds},
        "utility": values["loss_null_retrieved"] - values["loss_retrieved"],
        "null_share": values["null_share_retrieved"],
    }


@functools.cache  # one function, so that the next state finds it compiled
def _compiled(config: Config) -> Callable:
    return parallel.on_local_devices(functools.partial(_per_example, config))


def _per_example(config: Config, params: dict, batch: PretrainBatch) -> dict[str, Float[Array, " batch"]]:
    read = realm.forward(config, params, batch, None)
    prior, logp = read.prior, read.logp
    weights = batch.mask_weights
    count = weights.sum(-1)
    hit = jnp.einsum("bk,bkm->bm", jnp.exp(prior), read.hits.astype(jnp.float32))
    together = knowledge_encoder.marginal_hits(
        config.model, params["encoder"], read.states, prior, batch.mask_targets, batch.mask_slots
    )
    return {
        "loss": -(marginal.token_marginal_logp(prior, logp) * weights).sum(-1) / count,
        "loss_null": -(logp[:, 0] * weights).sum(-1) / count,
        "accuracy": (hit * weights).sum(-1) / count,
        "accuracy_null": (read.hits[:, 0] * weights).sum(-1) / count,
        "right": (together | (weights == 0)).all(-1) * 1.0,
        "right_null": (read.hits[:, 0] | (weights == 0)).all(-1) * 1.0,
        "null_share": jnp.exp(prior[:, 0]),
    }
