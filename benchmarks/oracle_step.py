"""The other side of `pretrain_step.py`: Hugging Face's REALM, in a Python environment of its own.

    python oracle_step.py BATCHES.npz '{"hidden_size": 128, ...}' THREADS

Reads requests `step N` and answers with the seconds of N training steps on one line; it first says `ready LOSS`.
`RealmScorer` (one embedder for both sides) scores the candidates, `RealmKnowledgeAugEncoder` reads them and gives the
marginal loss. The update is torch's fused AdamW with one parameter group, without gradient clipping.
"""

import json
import sys
import time

import numpy as np
import torch
from transformers import RealmConfig, RealmKnowledgeAugEncoder, RealmScorer


class Oracle:
    """Both models with their optimizer, and the batches that they cycle through."""

    def __init__(self, batches: list[dict], config: RealmConfig):
        torch.manual_seed(0)
        self._scorer, self._encoder = RealmScorer(config).train(), RealmKnowledgeAugEncoder(config).train()
        parameters = [*self._scorer.parameters(), *self._encoder.parameters()]
        self._optimizer = torch.optim.AdamW(parameters, lr=3e-5, weight_decay=0.01, fused=True)
        self._batches, self._taken = batches, 0

    def step(self) -> float:
        """One training step on the next batch; returns the loss."""
        batch = self._batches[self._taken % len(self._batches)]
        self._taken += 1
        self._optimizer.zero_grad(set_to_none=True)
        loss = self._loss(batch)
        loss.backward()
        self._optimizer.step()
        return loss.item()

    def _loss(self, batch: dict) -> torch.Tensor:
        scores = self._scorer(
            input_ids=batch["query_ids"],
            attention_mask=batch["query_mask"],
            token_type_ids=batch["query_types"],
            candidate_input_ids=batch["blocks_ids"],
            candidate_attention_mask=batch["blocks_mask"],
            candidate_token_type_ids=batch["blocks_types"],
        )
        return self._encoder(
            input_ids=batch["joint_ids"],
            attention_mask=batch["joint_mask"],
            token_type_ids=batch["joint_types"],
            relevance_score=scores.relevance_score,
            labels=batch["labels"],
            mlm_mask=batch["mlm_mask"],
        ).loss


def read_batches(file: str) -> list[dict]:
    """The arrays `NUMBER/NAME` of the file as one dict of int64 tensors for each number."""
    batches = {}
    with np.load(file) as arrays:
        for key in arrays.files:
            number, name = key.split("/")
            batches.setdefault(int(number), {})[name] = torch.from_numpy(arrays[key].astype(np.int64))
    return [batches[number] for number in sorted(batches)]


def main() -> None:
    file, config, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    oracle = Oracle(read_batches(file), RealmConfig(**json.loads(config)))
    print("ready", oracle.step(), flush=True)
    for line in sys.stdin:
        seconds = []
        for _ in range(int(line.split()[1])):
            start = time.perf_counter()
            oracle.step()
            seconds.append(time.perf_counter() - start)
        print(*seconds, flush=True)


if __name__ == "__main__":
    main()
