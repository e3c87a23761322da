"""Our embedding of blocks beside sentence-transformers', with the same weights, blocks and cores.

    make oracle
    python benchmarks/embedding.py [--init=asset:minilm] [--oracle-python=.venv-oracle/bin/python] [--name=embedding]

A run of MiniLM's shape (6 layers, 384 wide, mean pooling, float32) is exported as `realm convert --to` does it. Ours
embeds its blocks as the index builder does; theirs encodes the same pairs (title, body) in batches of 32 (its default)
and of 128, and of its times the best counts. Its times contain those of its tokenizer, which ours needs only once for a
corpus; they are given beside. The two take turns. Writes benchmarks/results/embedding.json.
"""

import dataclasses
import json
import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
import tyro
from pretrain_step import matmul_rate
from report import write_result
from rival import Rival, threads

from realm_jax import huge_pages
from realm_jax.config import Config, ConfigError, CorpusConfig
from realm_jax.convert.export import to_sentence_transformers
from realm_jax.data.corpus import Corpus
from realm_jax.data.prepare import prepare
from realm_jax.experiments import minilm
from realm_jax.index.embed_blocks import embed_corpus
from realm_jax.plan.work import bert_macs
from realm_jax.training import phases
from realm_jax.workdir import Workdir

MODEL = dataclasses.replace(minilm.get_config().model, dtype="float32")
BATCHES = (32, 128)
LARGEST_ERROR = 1e-4  # of an embedding, relative to the largest value of all


@dataclass(frozen=True)
class _Flags:
    init: str = "random"
    """First weights, as --init of `realm run`."""
    corpus: str = "asset:wiki-leads"
    """What the blocks are cut from, as --corpus of `realm run`."""
    block_len: int = 288
    """Most wordpieces of a block."""
    blocks: int = 2048
    """How many of the blocks are embedded, chosen at random."""
    turns: int = 3
    """How often the two take turns."""
    oracle_python: Path = Path(".venv-oracle/bin/python")
    """Python of an environment with sentence-transformers."""
    name: str = "embedding"
    """Of the result; empty for none."""
    note: str = ""
    """What else the machine did."""


def main() -> None:
    flags = tyro.cli(_Flags, description=__doc__)
    if not flags.oracle_python.exists():
        raise ConfigError(f"{flags.oracle_python} does not exist: make oracle, or --oracle-python=")
    settings = CorpusConfig(knowledge=flags.corpus, block_len_tokens=flags.block_len)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        workdir = Workdir.create(folder / "run", Config(init=flags.init, model=MODEL, corpus=settings))
        corpus = prepare(workdir).knowledge
        chosen = np.sort(np.random.default_rng(0).permutation(corpus.num_blocks)[: flags.blocks])
        to_sentence_transformers(workdir, folder / "st")
        values = measured(flags, workdir, corpus, chosen, folder)
    print("\n".join(f"{key}: {value}" for key, value in values.items()))
    if flags.name:
        print(write_result(flags.name, values, flags.note))


def measured(flags: _Flags, workdir: Workdir, corpus: Corpus, chosen: np.ndarray, folder: Path) -> dict:
    """Both sides' medians over the turns, once it is seen that they compute the same."""
    blocks = [corpus.block(i) for i in chosen]
    texts, theirs_file = folder / "texts.json", folder / "theirs.npy"
    texts.write_text(json.dumps([[block.title, block.text] for block in blocks]))
    config, out = workdir.config, np.zeros((len(chosen), MODEL.projection_dim), np.float32)
    params = phases.first_params(workdir, ("embedder",))["embedder"]

    def ours() -> float:
        started = time.perf_counter()
        embed_corpus(config, params, corpus, out, blocks=chosen)
        return time.perf_counter() - started

    seconds, rates = {"ours": [], "tokenizer": [], **{batch: [] for batch in BATCHES}}, []
    with Rival(flags.oracle_python, "oracle_embedding", folder / "st", texts, theirs_file, threads()) as rival:

        def theirs(batch: int) -> float:
            return float(rival.ask(str(batch)))

        ours(), theirs(BATCHES[0])  # warm
        error = np.abs(out - np.load(theirs_file)).max() / np.abs(out).max()
        if not error < LARGEST_ERROR:
            raise ConfigError(f"the embeddings differ by {error:.1e} of the largest value: nothing is compared")
        for _ in range(flags.turns):
            rates.append(matmul_rate())
            seconds["ours"].append(ours())
            seconds["tokenizer"].append(theirs(0))
            for batch in BATCHES:
                seconds[batch].append(theirs(batch))
    took = {side: statistics.median(of) for side, of in seconds.items()}
    best = min(BATCHES, key=took.get)
    flops = 2 * bert_macs(MODEL, corpus.lengths[chosen])
    rate = statistics.median(rates)
    return {
        "blocks": len(chosen),
        "mean_length": round(float(corpus.lengths[chosen].mean()), 1),
        "our_blocks_per_s": round(len(chosen) / took["ours"], 1),
        "their_blocks_per_s": round(len(chosen) / took[best], 1),
        "their_batch": best,
        "ratio": round(took[best] / took["ours"], 2),
        "ratio_without_their_tokenizer": round((took[best] - took["tokenizer"]) / took["ours"], 2),
        "relative_error": float(f"{error:.1e}"),
        "matmul_gflop_per_s": round(rate / 1e9, 1),
        "share_of_matmul_rate": round(flops / rate / took["ours"], 3),
        "seconds": {str(side): [round(x, 3) for x in of] for side, of in seconds.items()},
        "threads": threads(),
    }


if __name__ == "__main__":
    huge_pages.ensure()
    jax.config.update("jax_platforms", "cpu")
    main()
