"""Closed book: what the pre-trained masked language model answers by itself, reading no block.

The question is followed by one to five masks and joined with the null block, as in pre-training; of the five guesses
the one with the best mean log-probability of its wordpieces is the answer. It shows how
much reading adds; the model was never trained to answer questions by itself.
"""

from collections.abc import Sequence

import jax
import numpy as np

from realm_jax import parallel
from realm_jax.batches import Tokens
from realm_jax.config import ModelConfig
from realm_jax.data.assembly import with_masks
from realm_jax.data.prepare import RunData
from realm_jax.models import knowledge_encoder
from realm_jax.openqa.inputs import question_tokens
from realm_jax.records import Prediction, Question
from realm_jax.scores.answers import is_correct
from realm_jax.training import phases
from realm_jax.workdir import Workdir

MOST_MASKS = 5
BATCH = 32  # questions a device


def answer(workdir: Workdir, data: RunData, questions: Sequence[Question]) -> list[Prediction]:
    """One guess for each question, by the encoder of the run."""
    if workdir.is_done("pretrain"):
        params = phases.last_params(workdir, "pretrain", ("encoder",))
    else:
        params = phases.first_params(workdir, ("encoder",))
    tokens = question_tokens(questions, data.tokenizer, data.special, workdir.config.finetune.question_len_tokens)
    run = parallel.on_local_devices(
        lambda params, joint, positions: _guess(workdir.config.model, params, joint, positions)
    )
    replicated = parallel.replicate(params["encoder"])
    size = BATCH * parallel.num_devices()
    best, guesses = np.full(len(questions), -np.inf), [""] * len(questions)
    for masks in range(1, MOST_MASKS + 1):
        joint, positions = with_masks(tokens, masks, data.special)
        for start in range(0, len(questions), size):
            chosen = np.minimum(np.arange(start, start + size), len(questions) - 1)
            part = jax.tree.map(lambda x, chosen=chosen: x[chosen], (joint, positions))
            ids, logp = jax.device_get(run(replicated, *parallel.shard(part)))
            ids, logp = ids.reshape(-1, masks), logp.reshape(-1, masks).mean(-1)
            for row in range(min(size, len(questions) - start)):
                if logp[row] > best[start + row]:
                    best[start + row] = logp[row]
                    guesses[start + row] = data.tokenizer.decode(ids[row].tolist())
    return [
        Prediction(question, guess, is_correct(question, guess), probability=float(np.exp(logp)))
        for question, guess, logp in zip(questions, guesses, best, strict=True)
    ]


def _guess(model: ModelConfig, params: dict, joint: Tokens, positions: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The most probable wordpiece of each mask and its log-probability, [batch, masks]."""
    joint = jax.tree.map(lambda x: x[:, None], joint)  # the null block is the only candidate
    states = knowledge_encoder.candidate_states(model, params, joint, positions)
    ids, logp = knowledge_encoder.best_tokens(model, params, states)
    return ids[:, 0], logp[:, 0]
