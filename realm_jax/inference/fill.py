"""Fills the blanks of a sentence: p(y|x) = sum_z p(y|z,x) p(z|x) over the blocks that are retrieved for it.

Scores and prior are those of training (`models.realm.forward`), without dropout. Every sentence is
padded to the same shape, so that nothing compiles after the first. Unlike in training, a sentence that was taken from
the corpus may find its own block.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from realm_jax import parallel
from realm_jax.batches import MaskedQueries, PretrainBatch, stack
from realm_jax.config import Config
from realm_jax.data.assembly import masked_query, with_candidates
from realm_jax.data.prepare import RunData
from realm_jax.index.loaded_index import LoadedIndex
from realm_jax.inference.filled import NULL, Filled, Guess, ReadBlock
from realm_jax.inference.results import Source
from realm_jax.inference.sentence import Sentence, literal_tokenizer, read_sentence
from realm_jax.losses import marginal
from realm_jax.model_folder.wordpiece import piece
from realm_jax.models import realm
from realm_jax.models.knowledge_encoder import KnowledgeEncoder
from realm_jax.openqa.retriever import Retriever

NUM_GUESSES = 5


class MaskFiller:
    """Pre-trained parameters over one index.

    Args:
        params: `embedder` and `encoder`, on the host.
        index: index of the knowledge corpus of `data`.
        source: where the predictions come from, which they name.
    """

    def __init__(self, config: Config, data: RunData, params: dict, index: LoadedIndex, source: Source | None = None):
        self._config, self._data, self.source = config, data, source
        self._literal = literal_tokenizer(data.tokenizer)
        self.retriever = Retriever(config, data, params["embedder"], index, config.pretrain.query_len_tokens)
        self._params = parallel.replicate({part: params[part] for part in ("embedder", "encoder")})
        self._judge = _compiled(config)

    def fill(self, text: str) -> Filled:
        """Predictions for every [MASK] of the text. Raises Refused if it has none."""
        config = self._config.pretrain
        sentence = read_sentence(text, self._literal, self._data.special, config.query_len_tokens)
        queries = self._queries(sentence)
        query_emb = self.retriever.embed(queries.query)[:1]  # the devices have copies
        found, _ = self.retriever.search(query_emb, config.num_candidates - 1)
        judged = jax.device_get(self._judge(self._params, parallel.shard(self._batch(queries, found))))
        prior, ids, p, block_ids, block_p = (x[0, 0] for x in judged)
        count = min(len(sentence.masked), config.max_masks)
        by_block = [self._guesses(*best) for best in zip(block_ids[:, :count, 0], block_p[:, :count, 0], strict=True)]
        notes = list(sentence.notes)
        if len(sentence.masked) > count:
            notes.append(f"Only the first {count} of {len(sentence.masked)} blanks are filled (pretrain.max_masks).")
        return Filled(
            parts=(*sentence.parts[:count], "[MASK]".join(sentence.parts[count:])),
            blanks=tuple(self._guesses(*best) for best in zip(ids[:count], p[:count], strict=True)),
            null_share=float(prior[0]),
            blocks=self._blocks([NULL, *found[0].tolist()], prior, by_block),
            null_guesses=by_block[0],
            notes=tuple(notes),
            source=self.source,
        )

    def _queries(self, sentence: Sentence) -> MaskedQueries:
        """The sentence once for each device."""
        config, masked = self._config.pretrain, np.array(sentence.masked)
        tokens = np.array(sentence.ids, np.uint16)
        query, *places = masked_query(tokens, masked, config.query_len_tokens, config.max_masks, self._data.special)
        nothing = np.uint64(0), np.int64(0)  # it was cut from no block
        return stack([MaskedQueries(query, *places, *nothing)] * parallel.num_devices())

    def _batch(self, queries: MaskedQueries, found: np.ndarray) -> PretrainBatch:
        devices = parallel.num_devices()
        batch = with_candidates(queries, np.repeat(found, devices, axis=0), self._data.knowledge, devices)
        # The slots list what training predicts. Their number would change the shape, and all places are read anyway.
        return dataclasses.replace(batch, mask_slots=np.zeros(devices, np.int32))

    def _guesses(self, ids: np.ndarray, probabilities: np.ndarray) -> tuple[Guess, ...]:
        pieces = [piece(self._data.tokenizer, int(i)) for i in ids]
        return tuple(Guess(name, float(p)) for name, p in zip(pieces, probabilities, strict=True))

    def _blocks(self, ordinals: list[int], prior: np.ndarray, guesses: list) -> tuple[ReadBlock, ...]:
        read = []
        for z in np.argsort(-prior, kind="stable"):
            is_null = z == 0
            if ordinals[z] < 0 and not (is_null and self._config.pretrain.null_block):
                continue
            found = None if is_null else self._data.knowledge.block(ordinals[z])
            texts = ("", "", "") if found is None else (found.source_id, found.title, found.text)
            read.append(ReadBlock(ordinals[z], *texts, float(prior[z]), guesses[z]))
        return tuple(read)


@functools.cache  # one function, so that the next index version finds it compiled
def _compiled(config: Config) -> Callable:
    return parallel.on_local_devices(functools.partial(_judge, config))


def _judge(config: Config, params: dict, batch: PretrainBatch) -> tuple[jax.Array, ...]:
    """Judges one device's queries.

    Returns:
        p(z|x) [batch, candidates]; the best wordpieces of each blank and their p(y|x) [batch, masks, guesses]; and the
        same by each candidate alone, p(y|z,x) [batch, candidates, masks, guesses].
    """
    read = realm.forward(config, params, batch, None)
    prior, states = read.prior, read.states
    flat = states.reshape(-1, states.shape[-1])
    logits = KnowledgeEncoder(config.model).apply({"params": params["encoder"]}, flat, method="head")
    logp = jax.nn.log_softmax(logits).reshape(*states.shape[:3], -1)
    summed = marginal.token_marginal_logp(prior, logp.reshape(*logp.shape[:2], -1)).reshape(
        *logp.shape[:1], *logp.shape[2:]
    )
    best, ids = jax.lax.top_k(summed, NUM_GUESSES)
    best_of_block, block_ids = jax.lax.top_k(logp, NUM_GUESSES)
    return jnp.exp(prior), ids, jnp.exp(best), block_ids, jnp.exp(best_of_block)
