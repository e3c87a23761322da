"""How well an embedder finds the blocks of held-out sentences: watched at every index version, on the same ones.

Two figures that need no questions: the share of plain sentences that find the block they were cut from, and of hard
ones, the same sentences with a salient span masked and the words of their article's title taken out.
"""

import dataclasses
from dataclasses import dataclass

import numpy as np
from etils import epath
from jaxtyping import Float, Int64

from realm_jax import parallel
from realm_jax.batches import Tokens, stack
from realm_jax.config import Config, ConfigError
from realm_jax.data.assembly import SpecialIds, concatenate
from realm_jax.data.corpus import Corpus
from realm_jax.data.pipeline import MaskedSentences
from realm_jax.index.embed_blocks import TowerEmbedder
from realm_jax.index.search import Search
from realm_jax.scores import recall
from realm_jax.workdir import read_json, write_json

KS = (1, 5, 20)
PROBE = "probe.json"
Place = tuple[int, int, int, int]
"""A sentence with its span: block, sentence within it, and the span's first and last + 1 wordpiece of the body."""


@dataclass(frozen=True)
class Probe:
    """Held-out sentences as queries, and the blocks they were cut from."""

    plain: Tokens
    """[batch, tokens]: the sentences as they are."""
    hard: Tokens
    """[batch, tokens]: the sentences with a salient span masked and the title's wordpieces taken out."""
    own_block: Int64[np.ndarray, " batch"]
    """The blocks' ordinals."""


def make_probe(
    corpus: Corpus, special: SpecialIds, config: Config, count: int, kept: epath.Path | None = None
) -> Probe | None:
    """Up to `count` held-out sentences with a salient span, from blocks of several sentences; None if there is none.

    Args:
        kept: as in `MaskedSentences`.
    """
    places = _draw(corpus, special, config, count, kept)
    return _read(places, corpus, special, config) if places else None


def run_probe(corpus: Corpus, special: SpecialIds, config: Config, count: int, kept: epath.Path | None) -> Probe | None:
    """The same for a run's index versions: drawn for the first of them, and kept, so that they can be compared.

    What the corpus gains later is not drawn from, and sentences of deleted blocks are left out from then on. A corpus
    that was compacted has other ordinals, and gets a new probe.
    """
    if kept is None:
        return make_probe(corpus, special, config, count)
    file = kept / PROBE
    drawn = read_json(file) if file.exists() else {}
    hashes = drawn.get("segment_hashes")
    if not hashes or corpus.segment_hashes[: len(hashes)] != hashes:
        places = _draw(corpus, special, config, count, kept)
        drawn = {"segment_hashes": corpus.segment_hashes, "places": places}
        write_json(file, drawn)
    live = corpus.live
    places = [tuple(place) for place in drawn["places"] if live[place[0]]]
    return _read(places, corpus, special, config) if places else None


def _draw(corpus: Corpus, special: SpecialIds, config: Config, count: int, kept: epath.Path | None) -> list[Place]:
    policy = dataclasses.replace(config.pretrain, masking="salient", sampling="span", answer_elsewhere=False)
    fraction = config.corpus.heldout_fraction
    try:
        sentences = MaskedSentences(corpus, special, policy, fraction, heldout=True, kept=kept)
    except ConfigError:
        return []
    places = []
    for number in sentences.one_per_sentence(4 * count, config.seed):
        segment, block, _, span = sentences.locate(number)
        if block["sentence_limit"] - block["sentence_start"] < 2:
            continue
        index = segment.first_block + int(span["block"])
        places.append((index, int(span["sentence"]), int(span["token_start"]), int(span["token_limit"])))
        if len(places) == count:
            break
    return places


def _read(places: list[Place], corpus: Corpus, special: SpecialIds, config: Config) -> Probe:
    plain, hard, length = [], [], config.pretrain.query_len_tokens
    for index, number, span_start, span_limit in places:
        body, sentence = corpus.body(index), corpus.sentences(index)[number]
        start, limit = int(sentence["token_start"]), int(sentence["token_limit"])
        masked = body[start:limit].copy()
        masked[span_start - start : span_limit - start] = special.mask
        plain.append(concatenate([body[start:limit]], special, length))
        hard.append(concatenate([masked[~np.isin(masked, corpus.title(index))]], special, length))
    return Probe(stack(plain), stack(hard), np.array([place[0] for place in places]))


def embed_queries(embed: TowerEmbedder, tokens: Tokens, batch: int = 256) -> Float[np.ndarray, "queries dim"]:
    """Embeddings in float32, computed in padded batches of one shape."""
    devices = parallel.num_devices()
    batch = -(-min(batch, len(tokens.ids)) // devices) * devices
    parts = []
    for start in range(0, len(tokens.ids), batch):
        part = [x[start : start + batch] for x in (tokens.ids, tokens.mask, tokens.types)]
        missing = batch - len(part[0])
        padded = [np.pad(x, ((0, missing), (0, 0)), mode="edge") for x in part]
        parts.append(embed(Tokens(*padded))[: batch - missing])
    return np.concatenate(parts)


def probe_recall(probe: Probe, embed: TowerEmbedder, search: Search) -> dict[str, recall.Mean]:
    """`plain_recall@k` and `hard_recall@k` over the probe's sentences."""
    results = {}
    for name, tokens in (("plain", probe.plain), ("hard", probe.hard)):
        found, _ = search.search(embed_queries(embed, tokens), max(KS))
        table = recall.recall_table(found, probe.own_block, KS)
        results.update({f"{name}_{key}": value for key, value in table.items()})
    return results
