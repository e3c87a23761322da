"""Fine-tuning throughput, where its time goes, and what the retriever's loss over 5000 blocks costs.

    python benchmarks/finetune_step.py [--blocks=6000] [--steps=12]

A 2-layer BERT reads 5 blocks of at most 288 wordpieces with each question; the corpora are made of the mini-corpus's
sentences, drawn at random: in one all blocks are full, in the other they are as long as Wikipedia's leads. Two streams
take turns, which differ in the beam alone: 5000 blocks, or the 5 that are read. Parts of the host's work are timed by
themselves; in a run they overlap the step before. Writes benchmarks/results/finetune_step.json.
"""

import json
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import tyro
from random_batches import BLOCK_LEN, REAL_BLOCK_LEN, drawn_lengths
from report import write_result

from realm_jax import huge_pages, parallel
from realm_jax.config import Config, CorpusConfig, FinetuneConfig, IndexConfig, ModelConfig
from realm_jax.data import assets, corpus_writer, run_tokenizer
from realm_jax.data.assembly import SpecialIds
from realm_jax.data.blocks import split_sentences
from realm_jax.data.prepare import RunData
from realm_jax.index.store import IndexStore
from realm_jax.models import embedder, reader
from realm_jax.records import Question, Record
from realm_jax.training.finetune_task import FinetuneTask

QUESTION_LEN, READ, BEAM, BATCH = 32, 5, 5000, 16
SPECIALS = 3  # of a block without a title
LENGTHS = {"full blocks": (BLOCK_LEN,) * len(REAL_BLOCK_LEN), "as long as leads": REAL_BLOCK_LEN}
WARM_STEPS = 2


@dataclass(frozen=True)
class _Flags:
    blocks: int = 6000
    """Blocks of the corpus."""
    steps: int = 12
    """Steps of each stream."""


def main() -> None:
    flags = tyro.cli(_Flags, description=__doc__)
    parallel.set_up_compilation_cache()
    values = {}
    for name, percentiles in LENGTHS.items():
        with tempfile.TemporaryDirectory() as folder:
            data, questions = make_data(Path(folder), flags.blocks, percentiles)
            store = random_index(Path(folder) / "index", data)
            values[name] = measure(data, questions, store, flags.steps)
        print(json.dumps({name: values[name]}, indent=1), flush=True)
    print(write_result("finetune_step", {"blocks_in_corpus": flags.blocks, "batch": BATCH, **values}))


def config_of(beam: int, vocab_size: int) -> Config:
    model = ModelConfig(
        vocab_size=vocab_size, num_layers=2, hidden_size=128, num_heads=2, intermediate_size=512, dropout=0.0
    )
    settings = FinetuneConfig(
        epochs=2, batch_size=BATCH, beam_blocks=beam, reader_blocks=READ, question_len_tokens=QUESTION_LEN
    )
    index = IndexConfig(search="exact")
    return Config(
        model=model, corpus=CorpusConfig("random", block_len_tokens=BLOCK_LEN), index=index, finetune=settings
    )


def make_data(folder: Path, num_blocks: int, percentiles: tuple[int, ...]) -> tuple[RunData, list[Question]]:
    """A corpus of blocks of such lengths, and for a sentence of each a question whose answer is two words of it."""
    lines = assets.fetch(assets.MINI_CORPUS).read_text().splitlines()
    texts = [json.loads(line)["text"] for line in lines]
    tokenizer = run_tokenizer.train(texts, 3000)
    sentences = [text[start:limit] for text in texts for start, limit in split_sentences(text)]
    sizes = [len(encoding) for encoding in tokenizer.encode_batch(sentences, add_special_tokens=False)]
    rng = np.random.default_rng(0)
    records, questions = [], []
    for i, length in enumerate(drawn_lengths(rng, percentiles, num_blocks)):
        chosen, left = [drawn := int(rng.integers(len(sentences)))], length - SPECIALS  # one sentence at least
        while (left := left - sizes[drawn]) >= sizes[drawn := int(rng.integers(len(sentences)))]:
            chosen.append(drawn)
        words = sentences[chosen[0]].split()
        questions.append(Question(str(i), " ".join(words[:8]), (" ".join(words[-2:]).strip("."),)))
        records.append(Record(str(i), "", " ".join(sentences[j] for j in chosen)))
    built = corpus_writer.build(
        records,
        folder / "corpus",
        tokenizer=tokenizer,
        tag=lambda sentences, title: [[] for _ in sentences],
        block_len_tokens=BLOCK_LEN,
        description={"source": "random", "fingerprint": "", "tagger": "none"},
    )
    return RunData(tokenizer, SpecialIds.from_tokenizer(tokenizer), built, built), questions


def random_index(folder: Path, data: RunData) -> IndexStore:
    """An index version of random embeddings: what is found does not matter here."""
    store = IndexStore(folder)
    with store.begin(0) as draft:
        embeddings = draft.embeddings(data.knowledge.num_blocks, ModelConfig().projection_dim, "float32")
        embeddings[:] = np.random.default_rng(0).standard_normal(embeddings.shape, np.float32)
        draft.publish({"segment_hashes": data.knowledge.segment_hashes, "search": "exact", "search_info": {}})
    return store


def measure(data: RunData, questions: list[Question], store: IndexStore, steps: int) -> dict:
    runs = {
        beam: Run(config_of(beam, data.tokenizer.get_vocab_size()), data, questions, store) for beam in (BEAM, READ)
    }
    for _ in range(WARM_STEPS):
        for run in runs.values():
            run.step()
    seconds: dict[int, list[float]] = {beam: [] for beam in runs}
    for _ in range(steps):
        for beam, run in runs.items():
            seconds[beam].append(run.step())
    print(f"seconds of each step: {seconds}", flush=True)
    step = {beam: statistics.median(of) for beam, of in seconds.items()}
    values = {
        "questions_per_second": round(BATCH / step[BEAM], 2),
        "step_seconds": {str(beam): round(value, 4) for beam, value in step.items()},
        "retriever_loss_share": round(1 - step[READ] / step[BEAM], 4),
        "parts_ms": {**runs[BEAM].host_parts(), **runs[BEAM].device_parts()},
    }
    for run in runs.values():
        run.stream.close()
    return values


class Run:
    """A fine-tuning as the loop runs it, one step at a time."""

    def __init__(self, config: Config, data: RunData, questions: list[Question], store: IndexStore):
        keys = jax.random.split(jax.random.key(0), 2)
        tower = embedder.init(config.model, keys[0])["shared"]
        params = jax.device_get(
            {"embedder": {"query": tower, "block": tower}, "reader": reader.init(config.model, keys[1])}
        )
        folder = store.folder.parent
        self.config = config
        self.task = FinetuneTask(config, data, questions, store, params, lambda params: 0.0, folder)
        optimizer = self.task.optimizer()
        state = parallel.TrainState(np.int32(0), params, optimizer.init(params))
        self.state = parallel.replicate(state)
        self.train_step = parallel.compiled_train_step(self.task.loss, optimizer, 0)
        self.stream = self.task.stream({})

    def step(self) -> float:
        started = time.perf_counter()
        batch = self.stream.take(self.state.params)
        self.state, metrics = self.train_step(self.state, batch)
        jax.block_until_ready(metrics)
        return time.perf_counter() - started

    def host_parts(self) -> dict:
        """Milliseconds a batch of what prepares it."""
        task, index = self.task, self.stream._index.loaded
        asked = task.asked(0)
        query_emb = np.random.default_rng(1).standard_normal((BATCH, self.config.model.projection_dim), np.float32)
        beam = task.propose(asked, query_emb, index)
        questions = [task.questions[i] for i in asked.number]
        parts = {
            "search": lambda: task.propose(asked, query_emb, index),
            "whole batch": lambda: task.join(asked, beam, index),
            "block labels": lambda: [
                task.finder.holds(q, row, self.config.finetune.retriever_label)
                for q, row in zip(questions, beam, strict=True)
            ],
            "gathered embeddings": lambda: np.asarray(index.embeddings[beam], np.float32),
        }
        return {f"host: {name}": _median_ms(part) for name, part in parts.items()}

    def device_parts(self) -> dict:
        """Milliseconds of the reader's forward and backward pass, and of a whole step, on one prepared batch."""
        index = self.stream._index.loaded
        asked = self.task.asked(0)
        query_emb = np.random.default_rng(1).standard_normal((BATCH, self.config.model.projection_dim), np.float32)
        batch = self.stream._room.pack(self.task.join(asked, self.task.propose(asked, query_emb, index), index))
        width = self.config.finetune.max_span_width
        params = parallel.unreplicate(self.state.params)["reader"]

        joint, in_body = jax.tree.map(jax.numpy.asarray, (batch.joint, batch.body_mask))

        def read(params):
            return reader.span_scores(self.config.model, params, joint, in_body, width).mean()

        gradient = jax.jit(jax.grad(read))

        def step():
            self.state, metrics = self.train_step(self.state, parallel.shard(batch))
            jax.block_until_ready(metrics)

        return {
            "device: reader": _median_ms(lambda: jax.block_until_ready(gradient(params))),
            "device: whole step": _median_ms(step),
        }


def _median_ms(part, times: int = 5) -> float:
    part()
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        part()
        seconds.append(time.perf_counter() - started)
    return round(1e3 * statistics.median(seconds), 2)


if __name__ == "__main__":
    huge_pages.ensure()
    main()
